"""What the services say of themselves to tools: OpenAPI of HTTP, AsyncAPI of the socket.

    schemas.py      values that both describe: users, sessions, entries, tickets
    errors.py       the envelope and the answers it comes in, out of the table in rules/errors.py
    operations.py   one row a method of a route; what most rows share is derived, not repeated
    openapi.py      puts the document together
    frames.py       every frame that clients send and the gateway sends
    asyncapi.py     puts the document together, with the close codes

Limits come from the settings in force. tests/api/test_openapi.py and tests/gateway/test_asyncapi.py
hold both documents against live services, in both directions.
"""
