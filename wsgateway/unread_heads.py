"""What can be known of a request whose head the websockets library refuses to read.

It hangs up without a word on a request with a body and on a head that breaks the grammar; our
answer is made from as much of the head as came and can be read.
"""

from __future__ import annotations

import re

from websockets.datastructures import Headers
from websockets.http11 import Request

# RFC 9112, 3 and 5, with the token of RFC 9110, 5.6.2. White space is taken off the values later:
# a pattern that did it could be made to try for ever.
_TOKEN = rb"[!#-'*+.0-9A-Z^-z|~-]+"
_REQUEST_LINE = rb"(%b) ([!-~]+) HTTP/1\.[01]\r\n" % _TOKEN
_FIELD = rb"(%b):([\t -~\x80-\xff]*)\r\n" % _TOKEN
_WHOLE_HEAD = re.compile(rb"%b(?:%b)*\r\n" % (_REQUEST_LINE, _FIELD))
_FIELDS = re.compile(rb"(?m)^" + _FIELD)


def read_what_can_be_read(head: bytes) -> Request:
    """The fields that came; method and path only where the head is whole and follows the grammar,
    otherwise both are empty. What stands behind the head is passed over."""
    before, end, _ = head.partition(b"\r\n\r\n")
    head = before + end
    headers = Headers()
    for name, value in _FIELDS.findall(head):
        headers.set_insecure(name.decode("ascii"), value.strip(b" \t").decode("iso-8859-1"))
    whole = _WHOLE_HEAD.fullmatch(head)
    if whole is None:
        return Request("", headers, method="")
    return Request(whole[2].decode("ascii"), headers, method=whole[1].decode("ascii"))
