"""The parser alone, fed with what a generator thinks of: it must neither raise nor depend on how
the bytes were cut, and never take more than it may."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from api.http_parser import StrictParser

LIMITS = SimpleNamespace(
    max_request_header_size=300,
    max_request_body_size=20,
    inbuf_overflow=1000,
    url_scheme="http",
)

# Pieces of requests, so that what is put together is often nearly one.
PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /a HTTP/1.1\r\n",
        b"POST http://a/b?c HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 21\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"X-Request-ID: abcdefgh\r\n",
        b"\r\n",
        b"\n",
        b"3\r\nabc\r\n",
        b"15\r\n",
        b"0\r\n",
        b"%2f",
        b" ",
        b"\x00",
    ]
)
ANYTHING = st.lists(PIECES | st.binary(max_size=8), max_size=14).map(b"".join)
GOOD_HEADS = st.sampled_from(
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n",
    ]
)
REQUESTS = ANYTHING | st.tuples(GOOD_HEADS, ANYTHING).map(b"".join)


def fed(data: bytes, cuts: list[int]) -> tuple[object, ...]:
    """What the parser makes of the data: everything that matters to the app and to the answer."""
    parser, consumed = StrictParser(LIMITS), 0
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(borders):
        piece = data[start:end]
        while piece and not parser.completed:
            taken = parser.received(piece)
            piece, consumed = piece[taken:], consumed + taken
            if parser.empty:  # the lines before a request; a channel goes on as here
                parser = StrictParser(LIMITS)
    if parser.error is not None:
        assert parser.completed
        result: tuple[object, ...] = (parser.error.code, parser.error.body)
    elif parser.completed:
        body = parser.get_body_stream().read()
        assert len(body) <= LIMITS.max_request_body_size
        result = (consumed, parser.command, parser.path, body, sorted(parser.headers.items()))
    else:
        result = ("waits for more",)
    parser.close()
    return result


@given(REQUESTS)
def test_no_bytes_make_it_raise(data: bytes) -> None:
    result = fed(data, [])
    assert result[1:] != ("an unexpected error in the parser",)


@given(REQUESTS, st.lists(st.integers(0, 400), max_size=10))
def test_how_the_bytes_were_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole, cut = fed(data, []), fed(data, cuts)
    if whole[0] == "waits for more" or isinstance(whole[1], bytes):
        assert cut == whole
    elif len(data) < LIMITS.max_request_header_size:
        assert cut[0] == whole[0]


@given(st.binary(max_size=20), st.lists(st.integers(1, 5), min_size=1), st.booleans())
def test_chunks_give_back_what_was_put_into_them(
    content: bytes, sizes: list[int], dressed: bool
) -> None:
    extension, trailer = (b";a=b", b"X: y\r\n") if dressed else (b"", b"")
    body, position, number = b"", 0, 0
    while position < len(content):
        piece = content[position : position + sizes[number % len(sizes)]]
        body += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
        position, number = position + len(piece), number + 1
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    parser = StrictParser(LIMITS)
    data = head + body + b"0\r\n" + trailer + b"\r\n"
    consumed = parser.received(data)
    consumed += parser.received(data[consumed:])
    assert (consumed, parser.error, parser.completed) == (len(data), None, True)
    assert parser.get_body_stream().read() == content
    assert parser.headers["CONTENT_LENGTH"] == str(len(content))
    parser.close()


def test_a_refused_head_keeps_what_its_answer_is_made_from() -> None:
    parser = StrictParser(LIMITS)
    parser.received(
        b"DELETE / HTTP/1.1\r\nA : b\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for:2.2.2.2\r\n"
        b"Authorization: Bearer secret\r\nX-Request-ID: abcdefgh\r\n\r\n"
    )
    assert parser.error is not None
    assert parser.command == "DELETE"
    assert parser.headers == {"X_FORWARDED_FOR": "1.1.1.1, 2.2.2.2", "X_REQUEST_ID": "abcdefgh"}


def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    def refused(length: int) -> bool:
        start = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
        parser = StrictParser(LIMITS)
        parser.received(start + b"b" * (length - len(start) - 4) + b"\r\n\r\n")
        assert parser.completed
        return parser.error is not None and parser.error.code == 431

    assert [refused(length) for length in (299, 300, 301, 601)] == [False, False, True, True]
