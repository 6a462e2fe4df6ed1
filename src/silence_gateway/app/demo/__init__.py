"""`silence demo`: a store, three replicas of the sample cafe, a gateway and some traffic, in one command."""
