"""`silence demo`: a store, three replicas of the sample cafe, a gateway and some traffic, in one command."""

from silence_gateway.app.demo.show import demo

__all__ = ["demo"]
