// The plain way with Node: ws, pg, one INSERT a message, a loop over the members.
import pg from "pg";
import { WebSocketServer } from "ws";
import { openRoom } from "../room.mjs";

const store = await openRoom(pg);
const members = new Set();
let users = 0;

const options = { host: "127.0.0.1", port: Number(process.env.PORT), perMessageDeflate: false };
new WebSocketServer(options).on("connection", (socket) => {
  const sender = (users += 1);
  socket.on("close", () => members.delete(socket));
  socket.on("message", async (data) => {
    const frame = JSON.parse(data);
    if (frame.type === "subscribe") {
      members.add(socket);
      socket.send(JSON.stringify({ type: "subscribed", channel_id: frame.channel_id }));
    } else if (frame.type === "send") {
      const { ack, message } = await store(sender, frame);
      socket.send(JSON.stringify(ack));
      const text = JSON.stringify(message); // once for all
      for (const member of members) member.send(text);
    }
  });
  socket.send(JSON.stringify({ type: "connected", user_id: sender }));
});
