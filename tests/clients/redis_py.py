"""Talks to a node through redis-py as an application does: redis_py.py <port>."""

import json
import sys

import redis

port = int(sys.argv[1])


def refused(call, code):
    try:
        call()
    except redis.ResponseError as error:
        assert str(error).startswith(code), error
    else:
        raise AssertionError(f"expected {code}")


for protocol in (2, 3):
    bucket = f"python{protocol}"
    link = redis.Redis(port=port, protocol=protocol, client_name=f"python-{protocol}", decode_responses=True)
    assert link.ping()
    assert link.client_getname() == f"python-{protocol}"
    assert link.info()["redis_mode"] == "standalone"
    assert link.command_count() > 10

    assert link.execute_command("BUCKET.CREATE", bucket) == "OK"
    documents = [json.dumps({"n": n}) for n in range(10)]
    ids = link.execute_command("BUCKET.INSERT", bucket, "DOCS", *documents)
    assert len(ids) == len(set(ids)) == 10, ids

    def query(filter):
        reply = link.execute_command("BUCKET.QUERY", bucket, json.dumps(filter))
        entries = reply["entries"] if protocol == 3 else reply[1]
        return [json.loads(entry) for entry in entries]

    assert sorted(entry["n"] for entry in query({"n": {"$gte": 7}})) == [7, 8, 9]

    # A pipeline without MULTI: every reply in its place, errors among them.
    with link.pipeline(transaction=False) as pipe:
        for n in range(100):
            pipe.execute_command("ECHO", n)
            pipe.execute_command("NOSUCH")
        replies = pipe.execute(raise_on_error=False)
    assert replies[::2] == [str(n) for n in range(100)]
    assert all(isinstance(reply, redis.ResponseError) for reply in replies[1::2])

    assert link.execute_command("BUCKET.REMOVE", bucket) == "OK"
    refused(lambda: query({}), "BUCKETBEINGREMOVED")
    assert link.execute_command("BUCKET.RESTORE", bucket) == "OK"
    assert len(query({})) == 10
    link.close()

# A pool of connections, and binary answers.
raw = redis.Redis(port=port, connection_pool=redis.ConnectionPool(port=port, max_connections=4))
assert raw.echo(b"\x00\xff\r\n") == b"\x00\xff\r\n"
print("ok")
