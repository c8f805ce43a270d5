"""A client of Gatehouse: REST calls and one live socket that comes back by itself.

    async with Client("http://127.0.0.1:8000") as client:
        await client.login("ann@example.org", "correct horse")
        async with client.live() as live:
            await live.subscribe(1, after_seq=0)
            await live.send(1, "hello")
            async for event in live:
                print(event)

Needs the websockets package and nothing else of Gatehouse. Each file is one idea, so that whoever
writes a client in another language can read them one by one: `backoff`, `close_codes`, `progress`
(where to resume), `outbox` (what to send again), `pace`, `inbox`; then `rest` and `socket_link`,
which touch the network; then `subscriptions`, `live` and `client`, which put them together.
"""

from gatehouse_client.client import Client, Ticket
from gatehouse_client.errors import ApiError, LiveEnded, SendRefused
from gatehouse_client.live import Live
from gatehouse_client.subscriptions import Subscription

__all__ = ["ApiError", "Client", "Live", "LiveEnded", "SendRefused", "Subscription", "Ticket"]
