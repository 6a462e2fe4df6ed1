"""
What a service is asked for where a route puts another beginning in the place of its own.

Nothing here awaits or decodes: what is behind the beginning goes on byte for byte. Routing has refused dot
segments and `check_path` those that hide, so what is left cannot climb out of the new beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

from silence_gateway.core.path_template import DOUBLE_STAR, parse_template
from silence_gateway.errors import BadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRewrite:
    """
    Puts *to* in the place of the first *depth* segments of a path.

    Attributes:
        depth: How many segments the beginning has that is replaced.
        to: What comes in its place, without a slash at its end: `/v2`, or empty.
        prefix: What was taken away where nothing took its place, for X-Forwarded-Prefix; empty otherwise.
    """

    depth: int
    to: str
    prefix: str

    @classmethod
    def between(cls, path: str, to: str) -> PathRewrite:
        """
        Return what makes paths below *to* of those that the pattern *path* matches.

        Raises:
            ValueError: If *path* does not end in `/**`, has another wildcard, or begins as *to* does.
        """
        template = parse_template(path)
        before = template.segments[:-1]
        named = "".join(f"/{segment}" for segment in template.segments if not segment.kind)
        if template.verb or not template.segments or template.segments[-1].kind != DOUBLE_STAR:
            raise ValueError(f"only paths that end in /** have a beginning: write {named}/**")
        if any(segment.kind for segment in before):
            raise ValueError("a beginning with * has no one name: write a route for each")
        kept = "" if to == "/" else to
        if named == kept:
            raise ValueError("paths begin so already: remove rewrite, or write what they shall begin with")
        return cls(depth=len(before), to=kept, prefix="" if kept else named)

    def of(self, target: str) -> str:
        """
        Return *target*, a path with perhaps a query, as the service is asked for it.

        Raises:
            BadRequest: What is left would begin with two slashes, which some programs take for a host, and
                others for a path that is guarded here by its own name.
        """
        path, mark, query = target.partition("?")
        at = 0
        for _ in range(self.depth):
            at = path.find("/", at + 1)
            if at < 0:
                return f"{self.to or '/'}{mark}{query}"
        if not self.to and path.startswith("//", at):
            raise BadRequest(f"an empty segment behind {self.prefix} has no meaning: send one slash")
        return f"{self.to}{path[at:]}{mark}{query}"
