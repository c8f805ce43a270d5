"""One scenario for every client library, whatever it is written in.

A runner is a small program in the library's language that carries out commands and answers them,
JSON objects both: `runner.py` and `runner.mjs` over stdin and stdout, `runner.html` in a page. The
scenario (`steps.py`) is one Python program that drives a runner and the stack that it talks to, and
says what must come of it.

A command is {"do", "who", ...}; `who` names one of the runner's clients. The answers:

    register {api_url, websocket_url?, email, password, display_name}   {user_id, session_id}
    sessions                                 {sessions: the ids of those that the app was given to
                                             keep; null where one is over}
    backoff                                  {bounds: of attempts 0 to 8, delays: 400 of attempt 3}
    call {path}                              {} or {"error": code}
    live, close                              {}
    subscribe {channel_id, after_seq?}       {last_seq} or {"error": code}
    unsubscribe {channel_id}                 {}
    send {channel_id, content, id?}          {seq, duplicate} or {"error": code}
    events                                   {events: [...]}, all since `live`
"""
