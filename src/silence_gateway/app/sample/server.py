"""
One replica of the sample cafe: `python -m silence_gateway.app.sample.server NAME [--port N]`.

A stock grpcio server with health and reflection, as the services are that people put behind a gateway;
grpcio and google.protobuf come with the `demo` extra and are used nowhere else. It prints its address
on one line. It ends at Ctrl-C, and where its standard input is a pipe also with that, so that it never
outlives a program that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

SERVICE = "silence.cafe.v1.Cafe"
MENU = {
    "espresso": (220, ("hot", "short")),
    "flat-white": (380, ("hot", "milk")),
    "latte": (390, ("hot", "milk")),
    "cold-brew": (420, ("cold",)),
    "tea": (250, ("hot",)),
}
STATES = ("received", "brewing", "ready", "served")
SIZES = {0: "S", 1: "S", 2: "L"}
# An order's id says what was ordered, so that any replica can answer for it: latte-L2 is two large lattes.
ORDER_ID = re.compile(r"(?P<drink>[a-z-]{1,30})-(?P<size>[SL])(?P<quantity>[1-9][0-9]?)")
MAX_EVENTS = 100


def load_messages() -> dict[str, Any]:
    """Register the cafe's descriptors and return its message classes by short name."""
    wanted = descriptor_pb2.FileDescriptorSet.FromString((files(__package__) / "cafe.binpb").read_bytes())
    pool = descriptor_pool.Default()
    for file in wanted.file:
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            pool.Add(file)
    found = pool.FindFileByName("cafe.proto")
    return {
        name: message_factory.GetMessageClass(descriptor)
        for name, descriptor in found.message_types_by_name.items()
    }


class Cafe:
    """The methods of the cafe; *name* is the replica that answers."""

    def __init__(self, name: str, messages: dict[str, Any]) -> None:
        self._name = name
        self._messages = messages

    def _drink(self, name: str, context: grpc.ServicerContext) -> tuple[int, tuple[str, ...]]:
        if name not in MENU:
            info = any_pb2.Any(type_url=f"type.googleapis.com/{SERVICE.rpartition('.')[0]}.Drink")
            info.value = self._messages["Drink"](name=name).SerializeToString()
            refuse(
                context, grpc.StatusCode.NOT_FOUND, f"no drink is called {name!r}; see GET /v1/drinks", info
            )
        return MENU[name]

    def _order(self, order_id: str, context: grpc.ServicerContext) -> Any:
        found = ORDER_ID.fullmatch(order_id)
        if found is None or found["drink"] not in MENU:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no order has the id {order_id!r}")
        assert found is not None
        size, quantity = (2 if found["size"] == "L" else 1), int(found["quantity"])
        return self._make(found["drink"], size, quantity, "")

    def _make(self, drink: str, size: int, quantity: int, note: str) -> Any:
        order = self._messages["Order"](
            id=f"{drink}-{SIZES[size]}{quantity}",
            drink=drink,
            size=size or 1,
            quantity=quantity,
            note=note,
            total_cents=MENU[drink][0] * quantity * (2 if size == 2 else 1),
            served_by=self._name,
        )
        order.placed_at.GetCurrentTime()
        return order

    def get_drink(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return one drink by its name."""
        price, tags = self._drink(request.name, context)
        return self._messages["Drink"](name=request.name, price_cents=price, tags=tags)

    def list_drinks(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Return the drinks that are cheap enough and have every tag asked for."""
        drink = self._messages["Drink"]
        return self._messages["ListDrinksResponse"](
            drinks=[
                drink(name=name, price_cents=price, tags=tags)
                for name, (price, tags) in MENU.items()
                if (not request.max_price_cents or price <= request.max_price_cents)
                and set(request.tags) <= set(tags)
            ]
        )

    def _check_size(self, size: int, context: grpc.ServicerContext) -> None:
        if size not in SIZES:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "size must be SMALL or LARGE")

    def place_order(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return the order that was placed."""
        self._drink(request.drink, context)
        if not 0 <= request.quantity <= 99:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "quantity must be 1 to 99")
        self._check_size(request.size, context)
        return self._make(request.drink, request.size, request.quantity or 1, request.note)

    def get_order(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return one order by its id."""
        return self._order(request.id, context)

    def update_order(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return the order as changed; what is left out stays as it was."""
        known = self._order(request.order.id, context)
        wanted = request.order
        if wanted.drink:
            self._drink(wanted.drink, context)
        self._check_size(wanted.size, context)
        changed = self._make(
            wanted.drink or known.drink,
            wanted.size or known.size,
            min(99, max(1, wanted.quantity or known.quantity)),
            wanted.note,
        )
        return self._messages["UpdateOrderResponse"](order=changed)

    def watch_order(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Yield what happens to an order, one event every 200 ms."""
        self._order(request.id, context)
        gone = threading.Event()
        context.add_callback(gone.set)
        wanted = min(MAX_EVENTS, request.events or len(STATES))
        for step in range(wanted):
            state = STATES[min(step, len(STATES) - 1)]
            yield self._messages["OrderEvent"](id=request.id, state=state, step=step + 1)
            if step + 1 < wanted and gone.wait(0.2):
                return

    def who_am_i(self, _request: Any, context: grpc.ServicerContext) -> Any:
        """Return which replica this is and what metadata reached it."""
        pairs = {
            key: value if isinstance(value, str) else value.hex()
            for key, value in context.invocation_metadata()
            if key != "authorization"
        }
        return self._messages["WhoAmIResponse"](replica=self._name, metadata=pairs)

    def fail(self, request: Any, context: grpc.ServicerContext) -> Any:
        """End with the status that was asked for."""
        codes = {code.value[0]: code for code in grpc.StatusCode}
        code = codes.get(request.code, grpc.StatusCode.INVALID_ARGUMENT)
        if code is grpc.StatusCode.OK:
            return self._messages["Order"](id="fine", served_by=self._name)
        refuse(context, code, request.message or f"you asked for {code.name}")
        raise AssertionError("refuse never returns")


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str, detail: Any = None) -> None:
    """End the call with *code*, with *detail* in google.rpc.Status where there is one; never returns."""
    if detail is not None:
        # google.rpc.Status{code=1, message=2, details=3}, written by hand to need no further package.
        message, packed = text.encode(), detail.SerializeToString()
        status = b"\x08" + _varint(code.value[0]) + b"\x12" + _varint(len(message)) + message
        status += b"\x1a" + _varint(len(packed)) + packed
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
    context.abort(code, text)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def make_server(name: str, address: str) -> tuple[grpc.Server, int]:
    """Return a server that is ready to start and the port it is bound to."""
    messages = load_messages()
    cafe = Cafe(name, messages)

    def handler(method: Any, wanted: str, answer: str, *, stream: bool = False) -> Any:
        make = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
        return make(method, messages[wanted].FromString, messages[answer].SerializeToString)

    methods = {
        "GetDrink": handler(cafe.get_drink, "GetDrinkRequest", "Drink"),
        "ListDrinks": handler(cafe.list_drinks, "ListDrinksRequest", "ListDrinksResponse"),
        "PlaceOrder": handler(cafe.place_order, "PlaceOrderRequest", "Order"),
        "GetOrder": handler(cafe.get_order, "GetOrderRequest", "Order"),
        "UpdateOrder": handler(cafe.update_order, "UpdateOrderRequest", "UpdateOrderResponse"),
        "WatchOrder": handler(cafe.watch_order, "WatchOrderRequest", "OrderEvent", stream=True),
        "WhoAmI": handler(cafe.who_am_i, "WhoAmIRequest", "WhoAmIResponse"),
        "Fail": handler(cafe.fail, "FailRequest", "Order"),
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    checks = health.HealthServicer()
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server, server.add_insecure_port(address)


def wait_for_the_end() -> None:
    """Return once the pipe that is standard input ends; anything else leaves it to signals."""
    # A terminal is not read: that would stop a server in the background. /dev/null would end it at once.
    mode = os.fstat(sys.stdin.fileno()).st_mode if sys.stdin else 0
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        sys.stdin.buffer.read()
    else:
        threading.Event().wait()


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(
        description="one replica of the sample cafe; it ends at Ctrl-C, or with the pipe that is its input"
    )
    parser.add_argument("name", help="what this replica calls itself")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: 0, any free one)")
    options = parser.parse_args()
    try:
        server, port = make_server(options.name, f"127.0.0.1:{options.port}")
    except RuntimeError:
        sys.exit(f"cannot listen on 127.0.0.1:{options.port}: the port is taken, or may not be used")
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        server.start()
        print(f"listening on 127.0.0.1:{port}", flush=True)
        wait_for_the_end()
    server.stop(grace=0.5).wait()
    print(f"served for {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
