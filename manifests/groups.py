"""Leakage groups: connected components of the graph whose edges link the target and the source of each fake."""

from __future__ import annotations

from collections.abc import Iterable


def connected_groups(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each id that occurs in `links` to the smallest id of its connected component.

    Args:
        links: (target_id, source_id) of each fake; an id without a partner is linked to itself.
    """
    parents: dict[str, str] = {}

    def root_of(member: str) -> str:
        while parents.setdefault(member, member) != member:
            parents[member] = parents[parents[member]]  # path halving keeps long chains cheap
            member = parents[member]
        return member

    for target_id, source_id in links:
        first, second = sorted((root_of(target_id), root_of(source_id)))
        parents[second] = first
    return {member: root_of(member) for member in parents}
