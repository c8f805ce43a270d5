// The commands of the scenario, carried out by the JavaScript client: over stdin and stdout in Node,
// by handle(command) in a page.
import { Client, backoffBound, backoffDelay } from "../../gatehouse_client_js/gatehouse.mjs";

const clients = new Map();
const sessions = new Map();
const lives = new Map();
const events = new Map();

const actions = {
  async register({ who, api_url, websocket_url, email, password, display_name }) {
    sessions.set(who, []);
    const client = new Client(api_url, {
      onSession: (session) => sessions.get(who).push(session && session.session_id),
      headers: { "X-Client-Version": "1.0" },
      ...(websocket_url && { websocketUrl: websocket_url }),
    });
    const session = await client.register(email, password, display_name);
    clients.set(who, client);
    return { user_id: session.user.id, session_id: session.session_id };
  },
  async sessions({ who }) {
    return { sessions: sessions.get(who) };
  },
  async backoff() {
    return {
      bounds: Array.from({ length: 9 }, (_, attempt) => backoffBound(attempt)),
      delays: Array.from({ length: 400 }, () => backoffDelay(3)),
    };
  },
  async call({ who, path }) {
    await clients.get(who).call("GET", path);
    return {};
  },
  async live({ who }) {
    events.set(who, []);
    lives.set(who, clients.get(who).live((event) => events.get(who).push(event)));
    return {};
  },
  async close({ who }) {
    lives.get(who).close();
    return {};
  },
  async subscribe({ who, channel_id, after_seq }) {
    const { last_seq } = await lives.get(who).subscribe(channel_id, after_seq);
    return { last_seq };
  },
  async unsubscribe({ who, channel_id }) {
    lives.get(who).unsubscribe(channel_id);
    return {};
  },
  async send({ who, channel_id, content, id }) {
    const { seq, duplicate } = await lives.get(who).send(channel_id, content, id);
    return { seq, duplicate };
  },
  async typing({ who, channel_id }) {
    lives.get(who).typing(channel_id);
    return {};
  },
  async acknowledge({ who, event_id }) {
    await lives.get(who).acknowledgeDrain(event_id);
    return {};
  },
  async events({ who }) {
    return { events: events.get(who) };
  },
};

async function handle(command) {
  try {
    return await actions[command.do](command);
  } catch (error) {
    return { error: error.code ?? error.message };
  }
}

if (globalThis.process) {
  const { createInterface } = await import("node:readline");
  for await (const line of createInterface({ input: process.stdin })) {
    const { number, ...command } = JSON.parse(line);
    handle(command).then((answer) => console.log(JSON.stringify({ number, answer })));
  }
  process.exit();
} else {
  globalThis.handle = handle;
}
