"""A place among tokens, and the depth budget: what every rule of the grammar stands on."""

from __future__ import annotations

from collections.abc import Callable

from verifiers.maths.tokens import END, Token
from verifiers.maths.tree import MAX_DEPTH, Node, Unreadable


class Cursor:
    """The tokens, the position of the next one, and how deep the rules have nested."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens: list[Token] = tokens
        self.position: int = 0
        self.depth: int = 0

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else END

    def take(self, *texts: str) -> bool:
        """Step over the next token where it is an operator or command of one of these texts."""
        token = self.peek()
        if token.kind in ("op", "cmd") and token.text in texts:
            self.position += 1
            return True
        return False

    def raised(self) -> bool:
        """Whether the token just read is an exponent or a base without braces: ``x^2 \\frac{1}{2}`` has no 2 1/2."""
        before = "".join(token.text for token in self.tokens[: self.position - 1])
        return before.rstrip("+-").endswith(("^", "_"))

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable(f"expected {text!r}, found {self.peek().text!r}")

    def nested(self, rule: Callable[[], Node]) -> Node:
        """Every way to recurse passes here, so that the depth budget bounds the Python stack as well."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable(f"deeper than {MAX_DEPTH} levels")
        node = rule()
        self.depth -= 1
        return node
