// The plain way with socket.io: one INSERT a message, and a room to emit to.
import pg from "pg";
import { Server } from "socket.io";
import { openRoom } from "../room.mjs";

const store = await openRoom(pg);
let users = 0;

const io = new Server({ transports: ["websocket"], perMessageDeflate: false, pingInterval: 3600e3 });
io.on("connection", (socket) => {
  const sender = (users += 1);
  socket.on("subscribe", (frame) => {
    socket.join("room");
    socket.emit("subscribed", { type: "subscribed", channel_id: frame.channel_id });
  });
  socket.on("send", async (frame) => {
    const { ack, message } = await store(sender, frame);
    socket.emit("ack", ack);
    io.to("room").emit("message", message);
  });
});
io.listen(Number(process.env.PORT));
