"""The published algorithm, step by step and one comparison at a time: it counts what the engine saves.

Slow and independent of :meth:`golden.orizuru.engine.OrizuruSpec.compute`, which sorts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

GONE = None


@dataclass
class Tournament:
    """Two trees P (largest) and Q (smallest) over the same leaves: heap numbering, root 1, children ``2i`` and
    ``2i + 1``, leaf of key i is ``n + i``; a node is one direction bit, 1 for right.

    ``ties``: ``order``, Q takes the right one of equal keys, its leaf level is P's inverted; ``paper``, the left one,
    which needs to know whether P's comparison found them equal. A popped leaf is gone from one tree only.

    Counted    ``initial``: comparisons that build both trees, 1.5n - 2. ``visits``: ancestors that are looked at after
               a pop, log2 n each. ``compared``: those of them with two children to compare.

    ``n`` is a power of two, 2 or more.
    """

    keys: Sequence[int]
    ties: str = "order"
    initial: int = 0
    visits: int = 0
    compared: int = 0
    right: list[list[bool]] = field(default_factory=list)
    gone: list[set[int]] = field(default_factory=lambda: [set(), set()])

    def __post_init__(self) -> None:
        n = len(self.keys)
        self.right = [[False] * n, [False] * n]
        for node in reversed(range(1, n)):
            self.right[0][node] = self._compare(0, node)
            leaves = 2 * node >= n
            self.right[1][node] = self._reuse(node) if leaves else self._compare(1, node)
            self.initial += 1 if leaves else 2

    def pop(self, tree: int) -> int | None:
        """The index of the winner of tree 0 (P) or 1 (Q), which is then gone from it."""
        leaf = self._winner(tree, 1)
        if leaf is GONE:
            return None
        self.gone[tree].add(leaf)
        node = leaf // 2
        while node:
            self.visits += 1
            self.right[tree][node] = self._visit(tree, node)
            node //= 2
        return leaf - len(self.keys)

    def _winner(self, tree: int, node: int) -> int | None:
        """The leaf that the directions lead to."""
        while node < len(self.keys):
            node = 2 * node + self.right[tree][node]
        return GONE if node in self.gone[tree] else node

    def _visit(self, tree: int, node: int) -> bool:
        left, right = (self._winner(tree, child) for child in (2 * node, 2 * node + 1))
        if left is GONE or right is GONE:
            return right is not GONE
        self.compared += 1
        return self._compare(tree, node)

    def _compare(self, tree: int, node: int) -> bool:
        left, right = (self._key(tree, child) for child in (2 * node, 2 * node + 1))
        if tree == 0:
            return right > left
        return right <= left if self.ties == "order" else right < left

    def _reuse(self, node: int) -> bool:
        """Q's direction over two leaves, from P's comparison."""
        equal = self._key(0, 2 * node) == self._key(0, 2 * node + 1)
        return not self.right[0][node] and not (equal and self.ties == "paper")

    def _key(self, tree: int, node: int) -> int:
        leaf = self._winner(tree, node)
        assert leaf is not GONE
        return self.keys[leaf - len(self.keys)]
