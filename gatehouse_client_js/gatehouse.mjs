// A client of Gatehouse for browsers and Node without dependencies; docs/clients.md shows its use.
const REFRESH_ATTEMPTS = 3; // an answer may get lost; the server gives the same one for a minute
const SILENCE_SECONDS = 25; // nothing heard, not even the answer to our ping: the network is gone
const STEADY_SECONDS = 10; // online for so long, and the next wait begins small again
const FRAME_SECONDS = 1 / 40; // slower than the server's limit, after a burst of one second's worth
// Closed for what we sent (RFC 6455, section 7.4.1): come back, but do not send it again.
const SENT_WRONG = { 1003: "unsupported_data", 1007: "bad_utf8", 1008: "policy", 1009: "too_big" };
/** The longest wait before attempt 0, 1, 2 ...; the wait is a random part of it (full jitter). */
export const backoffBound = (attempt) => Math.min(30, 0.5 * 2 ** Math.min(attempt, 16));
export const backoffDelay = (attempt, random = Math.random) => random() * backoffBound(attempt);
// What the API answers while the refresh token is good: the access token is old, its key withdrawn
// after a leak, or its session drained, and to an updated client the refresh gives a new one.
const REFRESHABLE = ["token_expired", "unauthorized", "drained"];
// No token of the session is good any more; every other refusal, a proxy's own too, spends nothing.
const OVER = ["session_revoked", "refresh_token_invalid", "refresh_token_reused"];
const pause = (seconds) => new Promise((wake) => setTimeout(wake, seconds * 1000));
/** `code` is what to decide by. Names: ApiError (also `status`, `details`): an HTTP call was
 * refused. SendRefused: the message, or the subscription, is. LiveEnded: the connection is over. */
export class GatehouseError extends Error {
  constructor(name, { message, ...more }) { Object.assign(super(message), { name, ...more }); }
}
/** A frame that wants an answer, and the promise of it; whoever waits is told, nobody has to. */
class Wish {
  promise = new Promise((resolve, reject) => Object.assign(this, { resolve, reject, refusals: 0 }));
  constructor(frame, more) { Object.assign(this, { frame, ...more }).promise.catch(() => {}); }
}
/** A person's access. Options: headers (the client's version); websocketUrl, WebSocket: instead of
 * what the API names and the platform has; onSession gets every session answer before it is used,
 * and null when the session is over: keep the refresh token there, to begin with refresh(token). */
export class Client {
  #accessToken; #refreshToken; #refreshing = null;
  constructor(apiUrl, options = {}) {
    this.apiUrl = apiUrl.replace(/\/+$/, "");
    this.options = { WebSocket: globalThis.WebSocket, onSession: () => {}, ...options };
  }
  live(onEvent) { return new Live(this, onEvent); }
  login(email, password) { return this.#open("/auth/login", { email, password }); }
  register(email, password, display_name) {
    return this.#open("/auth/register", { email, password, display_name });
  }
  logout() { return this.call("POST", "/auth/logout").then(() => this.options.onSession(null)); }
  /** One at a time, whoever asks: a refresh token is for one use. */
  refresh(storedToken = this.#refreshToken) {
    this.#refreshToken = storedToken;
    return (this.#refreshing ??= this.#refreshOnce().finally(() => (this.#refreshing = null)));
  }
  /** Any call as the person who is logged in; where a refresh may help, refreshes and repeats. */
  async call(method, path, body) {
    const token = this.#accessToken;
    try {
      return await this.#fetch(method, path, body, token);
    } catch (error) {
      if (!token || !REFRESHABLE.includes(error.code)) throw error;
    }
    if (this.#accessToken === token) await this.refresh(); // else somebody else has done it
    return this.#fetch(method, path, body, this.#accessToken);
  }
  async #refreshOnce(attempt = 0) {
    try {
      return await this.#open("/auth/refresh", { refresh_token: this.#refreshToken ?? "" });
    } catch (error) {
      if (error.status || attempt + 1 === REFRESH_ATTEMPTS) throw error;
      await pause(backoffDelay(attempt));
      return this.#refreshOnce(attempt + 1);
    }
  }
  async #open(path, body) {
    const session = await this.#fetch("POST", path, body);
    this.#refreshToken = session.refresh_token;
    this.options.onSession(session);
    this.#accessToken = session.access_token;
    return session;
  }
  async #fetch(method, path, body, token) {
    const headers = { ...this.options.headers };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (token !== undefined) headers.Authorization = `Bearer ${token}`;
    const sent = { method, headers, body: JSON.stringify(body), signal: AbortSignal.timeout(15e3) };
    const response = await fetch(this.apiUrl + path, sent);
    const value = await response.json().catch(() => null); // nothing (204), or a proxy's own page
    if (response.status === 204 || (response.ok && value)) return value;
    const isOurs = typeof value?.error?.code === "string";
    const error = isOurs ? value.error : { code: "unexpected_answer" };
    if (OVER.includes(error.code)) this.options.onSession(null);
    throw new GatehouseError("ApiError", { ...error, status: response.status });
  }
}
/** The live connection: comes back by itself, resumes where it was, loses no send. */
class Live {
  #link = null; #ended = null; #wake; #numbers = 0;
  #channels = new Map(); // by id: a Wish with `lastSeq`, and the `link` on which it was granted
  #outbox = new Map(); // by client_msg_id: a Wish
  #drain = null; #drainAcks = new Map(); // the drain that was told; by event_id: a Wish
  constructor(client, onEvent) { Object.assign(this, { client, onEvent }).#run(); }
  get #wishes() {
    return [this.#channels, this.#outbox, this.#drainAcks].flatMap((map) => [...map.values()]);
  }
  /** Entries after `lastSeq`, then every new one; without it, only what comes from now on. */
  async subscribe(channel_id, lastSeq) {
    const ref = `subscribe ${++this.#numbers}`; // tells apart the answers to two of one channel
    this.#channels.get(channel_id)?.reject(new GatehouseError("SendRefused", { code: "conflict" }));
    this.#channels.delete(channel_id);
    return this.#ask(this.#channels, channel_id, { type: "subscribe", channel_id, ref }, { lastSeq });
  }
  unsubscribe(channel_id) {
    this.#channels.delete(channel_id);
    this.#transmit(new Wish({ type: "unsubscribe", channel_id }));
  }
  /** The ack, once it is stored, however long that takes; the same id again is the same message. */
  async send(channel_id, content, id = crypto.randomUUID()) {
    return this.#ask(this.#outbox, id, { type: "send", channel_id, client_msg_id: id, content });
  }
  /** Tells the others that somebody is typing; they hear of it once in 3 s at most. */
  typing(channel_id) { this.#transmit(new Wish({ type: "typing", channel_id })); }
  /** Everything that must be saved before the drain's deadline has been; done once that is noted. */
  async acknowledgeDrain(event_id) {
    const frame = { type: "drain_ack", event_id, ref: `drain_ack ${event_id}` };
    await this.#ask(this.#drainAcks, event_id, frame);
  }
  close() { this.#end(null, "closed here"); }
  /** Sent now and on every further connection, until it is answered; what is asked twice is one. */
  #ask(wishes, key, frame, more) {
    if (this.#ended) throw this.#ended;
    if (!wishes.has(key)) this.#transmit(wishes.set(key, new Wish(frame, more)).get(key));
    return wishes.get(key).promise;
  }
  async #run() {
    for (let attempt = 0; ; attempt += 1) {
      const link = (this.#link = { dueAt: 0, writing: Promise.resolve() });
      const { code = null, reason, isFinal, wait = 0 } = await this.#connectOnce(link);
      this.#link = null;
      if (isFinal || (code >= 4500 && code <= 4999)) this.#end(code, reason); // a person must act
      if (this.#ended) return;
      const written = [...this.#outbox.values()].filter((one) => one.writtenOn === link);
      for (const one of SENT_WRONG[code] ? written : []) {
        one.isSuspect = true; // the others of several may be stored: they go again, each alone
        if (written.length === 1) this.#refuse(one, { code: SENT_WRONG[code], message: reason });
      }
      if (performance.now() - link.onlineAt >= STEADY_SECONDS * 1000) attempt = 0;
      const seconds = wait + backoffDelay(attempt);
      this.#emit({ type: "offline", code, reason, seconds });
      await Promise.race([pause(seconds), new Promise((wake) => (this.#wake = wake))]);
    }
  }
  /** One socket from its ticket to its end: { code, reason, isFinal, wait }. */
  async #connectOnce(link) {
    try {
      const ticket = await this.client.call("POST", "/auth/ws-ticket");
      const { WebSocket, websocketUrl = ticket.websocket_url } = this.client.options;
      if (!this.#ended) link.socket = new WebSocket(websocketUrl, ticket.subprotocols);
    } catch ({ status, code, name, message, details }) {
      // Nobody answered, or refused for a while, or for good, or no socket can be opened there.
      const isTemporary = status >= 500 || status === 429 || code === "unexpected_answer";
      const isFinal = status ? !isTemporary : name === "SyntaxError";
      return { reason: status ? code : message, isFinal, wait: details?.retry_after_seconds };
    }
    if (!link.socket) return {};
    const end = await new Promise((finish) => {
      link.finish = finish;
      link.watch = setInterval(() => {
        if (!link.isHeard) finish({ reason: "the server has fallen silent" });
        link.isHeard = false;
        this.#transmit(new Wish({ type: "ping" }));
      }, SILENCE_SECONDS * 1000);
      let work = Promise.resolve(); // one frame after another, though paging in takes its time
      link.socket.onmessage = ({ data }) => {
        link.isHeard = true;
        work = work.then(() => link === this.#link && this.#receive(JSON.parse(data), link));
        work.catch((error) => finish({ reason: error.message }));
      };
      link.socket.onclose = link.socket.onerror = ({ code = 1006, reason = "broken" }) =>
        work.catch(() => {}).then(() => finish({ code, reason })); // Node 20 errs on a refusal
    });
    clearInterval(link.watch);
    link.socket.close();
    return end;
  }
  async #receive(frame, link) {
    const { type, channel_id: id, ref } = frame;
    const [channel, message] = [this.#channels.get(id), this.#outbox.get(frame.client_msg_id)];
    if (type === "connected") {
      link.onlineAt = performance.now();
      for (const wish of this.#wishes) this.#transmit(wish);
      this.#emit({ type: "online" });
      this.#hearOfDrain(frame.drain ?? null);
    } else if (["message", "deleted", "joined", "left"].includes(type)) {
      if (channel?.link === link) this.#handOn(channel, frame);
    } else if (type === "subscribed") {
      if (channel?.frame.ref === ref) await this.#resume(channel, frame, link);
    } else if (type === "ack") {
      this.#outbox.delete(frame.client_msg_id);
      message?.resolve(frame);
    } else if (type === "drain_acked") {
      this.#drainAcks.get(frame.event_id)?.resolve();
      this.#drainAcks.delete(frame.event_id);
    } else if (type === "error") {
      if (message) this.#refuse(message, frame);
      else if (!ref) this.#emit(frame);
      else this.#lose(this.#wishes.find((one) => one.frame.ref === ref), frame);
    } else if (type !== "unsubscribed" && type !== "pong") {
      if (type === "removed") this.#channels.delete(id);
      if (type.startsWith("drain_")) this.#drain = type === "drain_cancelled" ? null : frame.event_id;
      this.#emit(frame);
    }
  }
  /** What `connected` says of it: told once, and again as a warning; or over while we were away. */
  #hearOfDrain(drain) {
    const [known, now] = [this.#drain, drain?.event_id ?? null];
    this.#drain = now;
    if (known && known !== now) this.#emit({ type: "drain_cancelled", event_id: known });
    if (now) this.#emit({ type: known === now ? "drain_warning" : "drain_started", ...drain });
  }
  /** What was missed, first; the channel is live from then on. */
  async #resume(channel, { channel_id, first_seq, last_seq, recovered, entries }, link) {
    const before = (entries[0]?.seq ?? last_seq + 1) - 1;
    channel.lastSeq ??= last_seq;
    if (channel.lastSeq > last_seq) this.#emit({ type: "rewound", channel_id, last_seq });
    if (channel.lastSeq > last_seq) channel.lastSeq = before;
    channel.link = link;
    channel.resolve({ channel_id, first_seq, last_seq });
    while (!recovered && channel.lastSeq < before) {
      const path = `/chat/channels/${channel_id}/messages?after_seq=${channel.lastSeq}`;
      const { entries: page } = await this.client.call("GET", path);
      if (link !== this.#link || this.#channels.get(channel_id) !== channel) return;
      if (!page.length) break;
      for (const entry of page) this.#handOn(channel, entry, true);
    }
    for (const entry of entries) this.#handOn(channel, entry, true);
    this.#handOn(channel, { channel_id, seq: last_seq + 1 }, true); // no entry: the end of the past
  }
  /** Of what is past, retention may have taken a part; live, the server never skips. */
  #handOn(channel, entry, isPast) {
    const [{ channel_id, seq }, next] = [entry, channel.lastSeq + 1];
    if (this.#channels.get(channel_id) !== channel || seq < next) return;
    if (seq > next && !isPast) throw new Error(`entry ${seq} came instead of ${next}`);
    if (seq > next) this.#emit({ type: "missed", channel_id, first_seq: next, last_seq: seq - 1 });
    channel.lastSeq = entry.type ? seq : seq - 1;
    if (entry.type) this.#emit(entry);
  }
  #lose(wish, why) {
    const { channel_id, event_id } = wish?.frame ?? {}; // of an error that is nobody's here: none
    this.#channels.delete(channel_id);
    this.#drainAcks.delete(event_id);
    if (wish?.link) this.#emit({ type: "removed", channel_id });
    wish?.reject(new GatehouseError("SendRefused", why));
  }
  #refuse(message, why) {
    const perhaps = why.code === "internal_error" && message.refusals < 5;
    if (perhaps || why.code === "unavailable") {
      message.writtenOn = null; // answered: no socket is closed on it
      message.onRefusal();
      const seconds = (why.retry_after_seconds ?? 0) + backoffDelay((message.refusals += 1));
      return setTimeout(() => this.#transmit(message), seconds * 1000);
    }
    this.#outbox.delete(message.frame.client_msg_id);
    message.reject(new GatehouseError("SendRefused", why));
  }
  /** At our pace, in order; without a connection never: the next one sends what is still wanted. */
  #transmit(wish) {
    const link = this.#link;
    if (!link?.onlineAt) return;
    link.writing = link.writing.then(async () => {
      const now = performance.now() / 1000;
      link.dueAt = Math.max(link.dueAt, now - 1) + FRAME_SECONDS;
      if (link.dueAt > now) await pause(link.dueAt - now);
      if (link !== this.#link) return;
      wish.writtenOn = link;
      link.socket.send(JSON.stringify({ ...wish.frame, after_seq: wish.lastSeq }));
      const refused = new Promise((resolve) => (wish.onRefusal = resolve)); // for a while
      if (wish.isSuspect) await Promise.race([wish.promise, refused]).catch(() => {});
    });
  }
  #emit(event) { try { this.onEvent(event); } catch (e) { setTimeout(() => { throw e; }); } }
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = new GatehouseError("LiveEnded", { code, message: reason });
    for (const wish of this.#wishes) wish.reject(this.#ended);
    this.#link?.finish?.({});
    this.#wake?.();
    this.#emit({ type: "ended", code, reason });
  }
}
