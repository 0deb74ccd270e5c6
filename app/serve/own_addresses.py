"""The addresses and the name of this machine, found without a look-up and without sending anything."""

import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")
_ELSEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}  # reserved for documentation


def own_addresses(family: int) -> list[str]:
    """Addresses of one family that other machines may reach: no loopback and no link-local ones."""
    found = _of_interfaces(family) if sys.platform == "linux" else _of_the_default_route(family)
    addresses = (ipaddress.ip_address(address) for address in found)
    return list(dict.fromkeys(str(each) for each in addresses if not (each.is_loopback or each.is_link_local)))


def own_name() -> str:
    """The machine's name, in lower case."""
    return socket.gethostname().lower()


def _of_interfaces(family: int) -> Iterator[str]:
    if family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            for line in _IPV6_ADDRESSES.read_text("ascii").splitlines():
                yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
        return
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # the interface has no address
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                yield socket.inet_ntoa(answer[20:24])


def _of_the_default_route(family: int) -> Iterator[str]:
    """The source address of the default route. "Connecting" a datagram socket chooses a route and sends nothing."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(_ELSEWHERE[socket.AddressFamily(family)])
        yield probe.getsockname()[0]
