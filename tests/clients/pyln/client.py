"""pyln-client, unchanged, told on stdin what to call.

A line is {"method": .., "kwargs": {..}}: a method of LightningRpc with its arguments, where {"msat": n} stands for a Millisatoshi.
What comes back is {"ok": ..} or {"error": {"code": .., "message": ..}}.
"""
import json
import sys

from pyln.client import LightningRpc, Millisatoshi, RpcError


def amount(value):
    return Millisatoshi(value["msat"]) if value.keys() == {"msat"} else value


def call(rpc, asked):
    method = getattr(rpc, asked["method"])
    try:
        return {"ok": method(**asked["kwargs"])}
    except RpcError as e:
        return {"error": e.error}


def main():
    rpc = LightningRpc(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(call(rpc, json.loads(line, object_hook=amount))), flush=True)


main()
