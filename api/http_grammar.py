"""What the head of a request may look like: RFC 9112 without its tolerances.

Whatever two programs in a row may read differently (a length given twice, a folded line, a bare
line feed) is how one request is smuggled inside another, so each is refused and its connection
closed. Causes are for the log: they are constants and quote nothing that a client sent.
"""

from __future__ import annotations

import re
from collections import defaultdict

# RFC 9110, 5.6.2: token. Methods are case-sensitive and those in use are upper case.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Z-]{1,32}) ([!-~]+) HTTP/([0-9])\.([0-9])")
# RFC 9112, 5.1: no space before the colon, no line that continues the one before (5.2).
FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")

# RFC 9112, 3.2.1 and 3.2.2, without user names; a fragment never travels.
_ORIGIN_FORM = re.compile(rb"/(?!/)[^#]*")
_AUTHORITY = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]{0,5})?"
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://(" + _AUTHORITY + rb")(/(?!/)[^#]*)?")
_HOST = re.compile(_AUTHORITY)

# An escape that is none, or that hides a slash, a backslash or a control character: the path that
# a proxy's rules were matched against would not be the one that is routed.
_UNSAFE_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|2[Ff]|5[Cc]|7[Ff])")

# Every control character but the tab. CRLF counts as one thing, and is no part of this.
_CONTROLS = bytes([*range(9), *range(10, 32), 127])

# falcon's name for a handshake, which it would refuse before any middleware has run.
_RESERVED_METHODS = (b"WEBSOCKET",)


class RefusedHead(Exception):
    """`status` is what HTTP says about it, `cause` goes to the log."""

    def __init__(self, status: int, cause: str) -> None:
        self.status = status
        self.cause = cause
        super().__init__(cause)


def has_stray_control(block: bytes, already_checked: int) -> bool:
    """Whether a head, or what has come of it, holds what no head may; seen before it is whole."""
    start = already_checked
    if block[:start].endswith(b"\r"):
        start -= 1  # its LF may be the first of the new bytes
    new = block[start:].removesuffix(b"\r").replace(b"\r\n", b"")
    return len(new.translate(None, _CONTROLS)) != len(new)


def check_head(head: bytes) -> None:
    """Raises RefusedHead; `head` ends with the empty line."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    minor_version = _check_request_line(lines[0])
    fields: dict[bytes, list[bytes]] = defaultdict(list)
    for line in lines[1:]:
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise RefusedHead(400, "a malformed header line")
        fields[match[1].lower()].append(match[2].strip(b" \t"))
    _check_host(fields.get(b"host", []), minor_version)
    _check_framing(fields, minor_version)


def _check_request_line(line: bytes) -> int:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or match[1] in _RESERVED_METHODS:
        raise RefusedHead(400, "a malformed request line")
    if match[3] != b"1" or match[4] not in (b"0", b"1"):
        raise RefusedHead(400, "neither HTTP/1.0 nor HTTP/1.1")
    target = match[2]
    if not (_ORIGIN_FORM.fullmatch(target) or _ABSOLUTE_FORM.fullmatch(target)):
        raise RefusedHead(400, "a target that is no path of ours")
    if _UNSAFE_ESCAPE.search(target.partition(b"?")[0]):
        raise RefusedHead(400, "an unsafe escape in the path")
    return int(match[4])


def _check_host(hosts: list[bytes], minor_version: int) -> None:
    # RFC 9112, 3.2: 400 when it is missing (1.1), repeated or malformed.
    if len(hosts) > 1 or (not hosts and minor_version == 1):
        raise RefusedHead(400, "not exactly one Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RefusedHead(400, "a malformed Host")


def _check_framing(fields: dict[bytes, list[bytes]], minor_version: int) -> None:
    """RFC 9112, 6: where the body ends must be said once, in one way."""
    lengths, codings = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if lengths is not None:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise RefusedHead(400, "a malformed Content-Length")
        if len(lengths[0]) > 18:
            raise RefusedHead(413, "a Content-Length beyond all measure")
    if codings is None:
        return
    if lengths is not None:
        raise RefusedHead(400, "Content-Length together with Transfer-Encoding")
    if minor_version == 0:
        raise RefusedHead(400, "Transfer-Encoding in HTTP/1.0")
    names = [name.strip(b" \t").lower() for name in b",".join(codings).split(b",")]
    if names == [b"chunked"]:
        return
    if b"chunked" in names[:-1] or not all(re.fullmatch(_TOKEN, name) for name in names):
        raise RefusedHead(400, "a malformed Transfer-Encoding")
    # RFC 9112, 6.1 asks for 501; the one table of error codes, where clients look, knows none.
    raise RefusedHead(400, "a transfer coding other than chunked")
