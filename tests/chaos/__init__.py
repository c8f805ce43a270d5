"""Everything is killed at random under load, and nothing that was promised may break.

`director.py` runs the services and kills them, `people.py` is the clients, each with a journal, and
`checker.py` judges what the journals, the subscribers and the database say. scripts/chaos is the
command; a short run of it is in the suite.

A journal is a file of JSON lines, each written and fsynced before the client goes on. Times are
seconds since 1970, of the one machine that all of this runs on.

    {"who": user_id, "session": session_id, "sends": bool}     the first line
    {"try": client_msg_id, "content": text}           about to be sent
    {"ack": client_msg_id, "seq": seq}                acknowledged
    {"refused": client_msg_id, "code": code}          refused: it may be stored or not
    {"saw": seq, "id": client_msg_id, "from": user_id, "content": text, "at": time}
    {"other": event}                                  a gap that was told, for instance
    {"ended": reason, "at": time}                     the live connection, for good
    {"let in": what, "at": time}                      something succeeded after the end
    {"caught up": seq}                                saw all that there was to see in the end

The director's has {"revoked": session_id, "who": user_id, "at": time} once the revocation is
committed, and {"killed": what, "at": time}.
"""
