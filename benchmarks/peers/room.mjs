// What both Node peers do with a message: one INSERT and its commit, then the ack, then everybody.
import { readFileSync } from "node:fs";

const STORE = {
  name: "store", // prepared once a connection
  text: `INSERT INTO peer_messages (channel_id, sender_id, client_msg_id, content)
         VALUES ($1, $2, $3, $4) RETURNING seq, created_at`,
};

export async function openRoom(pg) {
  const pool = new pg.Pool({ max: 10 });
  await pool.query(readFileSync(new URL("room.sql", import.meta.url), "utf8"));
  return async function store(sender, frame) {
    const { channel_id, client_msg_id, content } = frame;
    const values = [channel_id, sender, client_msg_id, content];
    const result = await pool.query({ ...STORE, values });
    const { seq, created_at } = result.rows[0];
    const named = { channel_id, seq: Number(seq), client_msg_id, created_at };
    return {
      ack: { type: "ack", ...named, duplicate: false },
      message: { type: "message", ...named, sender_id: sender, sender_name: "Somebody", content },
    };
  };
}
