#!/usr/bin/env python3
"""The broker's gRPC contract by Google's own Python library, over a unix socket.

    grpc_client.py SOCKET METHOD [JSON]

METHOD is one of the TokenBroker service, JSON the request as proto3 JSON (default {}). A stream is read up to
its first message. The answer is printed with `token` replaced by what may be told of it; a refusal as
{"status": NAME, "message": …, "reason": …, "metadata": {…}, "retry": SECONDS or null}, with status 3.
`--stubs DIR` says where kit.py made the stubs.
"""

import argparse
import json
import sys

import kit


def call(arguments):
    sys.path.insert(0, arguments.stubs)
    import grpc
    from google.protobuf import json_format
    from google.rpc import error_details_pb2, status_pb2
    from nightlatch.broker.v1 import broker_pb2, broker_pb2_grpc

    method = broker_pb2.DESCRIPTOR.services_by_name["TokenBroker"].methods_by_name[arguments.method]
    request = json_format.Parse(arguments.request, getattr(broker_pb2, method.input_type.name)())
    # The Host of a unix socket is "localhost" for every other client too.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{arguments.socket}", options=options) as channel:
        ask = getattr(broker_pb2_grpc.TokenBrokerStub(channel), arguments.method)
        try:
            answer = ask(request, timeout=90)
            if method.server_streaming:
                stream, answer = answer, next(answer)
                stream.cancel()
        except grpc.RpcError as why:
            return refusal(why, error_details_pb2, status_pb2)
    said = json_format.MessageToDict(answer, preserving_proto_field_name=True)
    if method.output_type.name == "AccessToken":
        token = said.pop("token")
        if said["token_type"] == "Bearer":
            said["token"] = kit.shown(token, said["expires_on"])
        else:
            said["signed_request"] = token
    return said, 0


def refusal(why, error_details_pb2, status_pb2):
    seen = {"status": why.code().name, "message": why.details(), "reason": None, "metadata": {}, "retry": None}
    for name, value in why.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    kit.expect(info.domain == "nightlatch", f"the domain of the error is {info.domain!r}")
                    seen["reason"], seen["metadata"] = info.reason, dict(info.metadata)
                elif detail.Unpack(retry):
                    seen["retry"] = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return seen, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("method")
    parser.add_argument("request", nargs="?", default="{}")
    parser.add_argument("--stubs", default=str(kit.TARGET / "interop-stubs"))
    arguments = parser.parse_args()
    status = []

    def run():
        seen, code = call(arguments)
        status.append(code)
        return seen

    kit.report(run)
    sys.exit(status[0])


if __name__ == "__main__":
    main()
