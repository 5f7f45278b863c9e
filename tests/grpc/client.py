#!/usr/bin/env python3
"""Calls Carillon by gRPC as a business service in Python does: code from proto/, tokens in the metadata.

    client.py calls ADDRESS      the five calls, publishing, reflection, health, errors
    client.py watch ADDRESS      a watch beside a sender, while the server is killed and started again: says "sent N" as it
                                 goes, and at the end whether anything was missed or came twice

Tokens come as TOKEN (scopes notifications:write, inbox:any, publish, service) and READER (user u1)."""

import json
import os
import pathlib
import sys
import threading
import time

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
messages, services = grpc.protos_and_services("carillon/v1/notification.proto")
publish_messages, publish_services = grpc.protos_and_services("carillon/v1/publish.proto")
targets = grpc.protos("carillon/v1/target.proto")

# Whatever hangs fails.
PATIENCE = 20
SENT = 150
# Behind these the sender goes on for a while, and then waits to be told on stdin that the server is there again.
CUTS = (40, 80, 120)
AFTER = 20


def metadata(name, *more):
    return (("authorization", f"Bearer {os.environ[name]}"), *more)


def open_channel(address):
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    return grpc.insecure_channel(address, options)


def refused(call, code):
    """The details of a refusal, by their types."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()}: {error.details()}"
        found = {}
        for detail in rpc_status.from_call(error).details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
                if detail.Is(kind.DESCRIPTOR):
                    found[kind] = kind()
                    detail.Unpack(found[kind])
        return found
    raise AssertionError(f"it should have been refused with {code}")


def calls(address):
    channel = open_channel(address)
    inbox = services.NotificationServiceStub(channel)
    by_service = {"metadata": metadata("TOKEN"), "timeout": PATIENCE}
    by_reader = {"metadata": metadata("READER"), "timeout": PATIENCE}

    # The contract by reflection is the one in proto/.
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {
        "carillon.v1.NotificationService",
        "carillon.v1.PublishService",
        "grpc.health.v1.Health",
    }, database.get_services()
    described = database.FindFileContainingSymbol("carillon.v1.NotificationService")
    assert [call.name for call in described.service[0].method] == [
        call.name for call in messages.DESCRIPTOR.services_by_name["NotificationService"].methods
    ]
    health = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"", timeout=PATIENCE) == b"\x08\x01", "SERVING"

    data = struct_pb2.Struct()
    data.update({"order": 7, "tags": ["a", True, None]})
    request = messages.SendNotificationRequest(
        user_id="u1", title="Stock is low", content="5 kg left", kind="warning", priority="high", data=data
    )
    key = ("idempotency-key", "order-7")
    sent = inbox.SendNotification(request, metadata=metadata("TOKEN", key), timeout=PATIENCE)
    again = inbox.SendNotification(request, metadata=metadata("TOKEN", key), timeout=PATIENCE)
    assert sent.id == again.id and again.replayed and not sent.replayed, (sent, again)
    assert abs(sent.created_at.seconds - time.time()) < 600, sent

    bulk = messages.SendBulkNotificationRequest(
        notifications=[
            messages.SendNotificationRequest(user_id="u1", title="two", content="c"),
            messages.SendNotificationRequest(user_id="u1", title="three", kind="loud"),
        ]
    )
    answer = inbox.SendBulkNotification(bulk, **by_service)
    assert (answer.total, answer.created, answer.failed) == (2, 1, 1), answer
    assert answer.results[1].problem.field == "notifications[1].kind", answer

    wanted = messages.GetUserNotificationsRequest(user_id="u1")
    listed = inbox.GetUserNotifications(wanted, **by_service).notifications
    assert [one.title for one in listed] == ["two", "Stock is low"], listed
    assert listed[1].data == data and listed[1].kind == "warning", listed
    assert inbox.GetUnreadCount(messages.GetUnreadCountRequest(), **by_reader).unread_count == 2
    marked = inbox.MarkAsRead(messages.MarkAsReadRequest(user_id="u1", notification_ids=[sent.id]), **by_service)
    assert (marked.count, marked.unread_count) == (1, 1), marked
    marked = inbox.MarkAsRead(messages.MarkAsReadRequest(all=True), **by_reader)
    assert (marked.count, marked.unread_count) == (1, 0), marked

    publish = publish_services.PublishServiceStub(channel)
    message = publish_messages.PublishRequest(to=targets.Target(user="u1"), data='{"price": 1.50}')
    published = publish.Publish(message, **by_service)
    assert published.topics[0].topic == "user:u1" and published.topics[0].offset >= 1, published
    denied = refused(lambda: publish.Publish(message, **by_reader), grpc.StatusCode.PERMISSION_DENIED)
    assert denied[error_details_pb2.ErrorInfo].reason == "scope_missing", denied
    message.data = "{"
    wrong = refused(lambda: publish.Publish(message, **by_service), grpc.StatusCode.INVALID_ARGUMENT)
    assert wrong[error_details_pb2.BadRequest].field_violations[0].field == "data", wrong

    # Refusals say why, which field and when.
    bad = messages.SendNotificationRequest(user_id="u1", title="t", kind="loud")
    wrong = refused(lambda: inbox.SendNotification(bad, **by_service), grpc.StatusCode.INVALID_ARGUMENT)
    assert wrong[error_details_pb2.ErrorInfo].domain == "carillon", wrong
    assert wrong[error_details_pb2.BadRequest].field_violations[0].field == "kind", wrong
    refused(lambda: inbox.SendNotification(bad, timeout=PATIENCE), grpc.StatusCode.UNAUTHENTICATED)
    other = messages.GetUnreadCountRequest(user_id="u2")
    refused(lambda: inbox.GetUnreadCount(other, **by_reader), grpc.StatusCode.PERMISSION_DENIED)
    large = messages.SendNotificationRequest(user_id="u1", title="t", content="x" * 2_000_000)
    refused_for_size = refused(
        lambda: inbox.SendNotification(large, **by_service), grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert refused_for_size[error_details_pb2.ErrorInfo].reason == "body_too_large", refused_for_size
    late = inbox.WatchInbox(messages.WatchInboxRequest(), metadata=metadata("READER"), timeout=0.5)
    try:
        for _ in late:
            pass
        raise AssertionError("a watch ends with its deadline")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    print("done", flush=True)


def send_all(inbox, ids, failed):
    """Each with a key of its own until it was accepted; what was accepted before the server died gives its id again."""
    for number in range(SENT):
        if number - AFTER in CUTS:
            sys.stdin.readline()
        deadline = time.monotonic() + 3 * PATIENCE
        while True:
            request = messages.SendNotificationRequest(
                user_id="u1", title=f"n{number}", content="c", idempotency_key=f"watch-{number}"
            )
            try:
                answer = inbox.SendNotification(request, metadata=metadata("TOKEN"), timeout=PATIENCE, wait_for_ready=True)
                ids.append(answer.id)
                break
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    failed.append(str(error))
                    return
        print(f"sent {number + 1}", flush=True)


def watch(address):
    channel = open_channel(address)
    inbox = services.NotificationServiceStub(channel)
    cursor, seen, ids, failed, cuts = None, [], [], [], 0
    sender = None
    while not failed and (sender is None or sender.is_alive() or len(seen) < len(ids)):
        request = messages.WatchInboxRequest(cursor=cursor)
        try:
            stream = inbox.WatchInbox(
                request, metadata=metadata("READER"), timeout=3 * PATIENCE, wait_for_ready=True
            )
            for message in stream:
                cursor = message.cursor
                seen += [change.upsert.id for change in message.changes if change.HasField("upsert")]
                if sender is None:
                    sender = threading.Thread(target=send_all, args=(inbox, ids, failed), daemon=True)
                    sender.start()
                if failed or not sender.is_alive() and len(seen) >= len(ids):
                    stream.cancel()
                    break
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
            cuts += 1
    print(json.dumps({"failed": failed, "cuts": cuts, "sent": ids, "seen": seen}), flush=True)


if __name__ == "__main__":
    {"calls": calls, "watch": watch}[sys.argv[1]](sys.argv[2])
