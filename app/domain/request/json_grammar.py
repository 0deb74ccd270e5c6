"""The tokens of JSON as patterns over bytes. Bounded counts keep each match short in time and memory."""

import re

_SPACE = rb"[ \t\r\n]{0,256}+"
_INNER_SPACE = rb"[ \t\r\n]{0,65536}+"
_TEXT = rb'"[^"\\\x00-\x1f]{0,1024}+"'
_NUMBER = rb"-?+(?:0|[1-9][0-9]{0,4299}+)(?:\.[0-9]{1,4300}+)?+(?:[eE][+-]?+[0-9]{1,4300}+)?+"
KEY = re.compile(_SPACE + rb'(?:(%b)%b:|")' % (_TEXT, _SPACE))
COLON = re.compile(_SPACE + rb"(:)")
_SCALAR = rb"(?:%b|%b|true|false|null|\{%b\}|\[%b\])" % (_TEXT, _NUMBER, _INNER_SPACE, _INNER_SPACE)
VALUE = re.compile(_SPACE + rb'(?:%b|(["{\[]))' % _SCALAR)
VALUES = re.compile(_SPACE + rb'(?:%b(?:%b,%b%b){0,64}+|(["{\[]))' % (_SCALAR, _SPACE, _SPACE, _SCALAR))
MEMBERS = re.compile(
    _SPACE + rb'(?:%b(?:%b,%b%b%b:%b%b){0,32}+|(["{\[]))' % (_SCALAR, _SPACE, _SPACE, _TEXT, _SPACE, _SPACE, _SCALAR),
)
"""A value, and the scalars that follow it in its array, or the scalar members in its object."""

AFTER = re.compile(_SPACE + rb"([,}\]])")
STRING_REST = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+',
)
SPACES = re.compile(rb"[ \t\r\n]*+")
