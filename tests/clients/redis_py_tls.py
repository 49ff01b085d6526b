"""Talks to a node by TLS as an application does: redis_py_tls.py <port> <authority> <certificate> <key>."""

import sys

import redis

port, authority, certificate, key = int(sys.argv[1]), *sys.argv[2:]


def connect(**options):
    return redis.Redis(host="localhost", port=port, ssl=True, decode_responses=True, **options)


with connect(ssl_ca_certs=authority, ssl_check_hostname=True) as link:
    assert link.ping()
    with link.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.echo(n)
        assert pipe.execute() == [str(n) for n in range(1000)]
    assert link.echo("x" * 1_000_000) == "x" * 1_000_000

with connect(ssl_ca_certs=authority, ssl_certfile=certificate, ssl_keyfile=key) as link:
    assert link.ping()

try:
    # The authorities of this machine have not signed the node's certificate.
    connect().ping()
except redis.ConnectionError as error:
    assert "certificate verify failed" in str(error).lower(), error
else:
    raise AssertionError("a certificate of nobody was trusted")
print("ok")
