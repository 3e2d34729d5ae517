"""Expressions: a recursive-descent parser from tokens to one tree, one method per level of precedence."""

from __future__ import annotations

from fractions import Fraction

from verifiers.maths.cursor import Cursor
from verifiers.maths.exact import MAX_EXPONENT
from verifiers.maths.names import BRACKETS, CONSTANTS, FUNCTIONS, GREEK, MATRICES, NOT_FACTORS, TRIG, WORDS
from verifiers.maths.numerals import POWERS
from verifiers.maths.tokens import Token
from verifiers.maths.tree import Node, Unreadable, integer, ratio, repeating
from verifiers.maths.units import lookup, noun


class Expression(Cursor):
    """``value()`` takes the longest expression from ``position`` on; the caller looks at what is left."""

    def value(self) -> Node:
        """sum := product (('+' | '-' | '±') product)*."""
        return self.nested(self._sum)

    def _sum(self) -> Node:
        node = Node("pm", "", (integer(0), self.product())) if self.take("pm") else self.product()
        while True:
            if self.take("+"):
                node = Node("add", "", (node, self.product()))
            elif self.take("-"):
                node = Node("add", "", (node, Node("neg", "", (self.product(),))))
            elif self.take("pm"):
                node = Node("pm", "", (node, self.product()))
            else:
                return node

    def product(self) -> Node:
        """product := unary (('*' | '/' | 'mod') unary | implicit factor)*, from left to right."""
        node = self.unary()
        while True:
            if self.take("*"):
                node = Node("mul", "", (node, self.unary()))
            elif self.take("/"):
                node = Node("div", "", (node, self.unary()))
                self._refuse_ambiguous(node)
            elif self.take("bmod", "mod"):
                node = Node("mod", "", (node, self.unary()))
            elif self.starts_factor():
                node = Node("mul", "", (node, self.power()))
            else:
                return node

    def _refuse_ambiguous(self, quotient: Node) -> None:
        """Only a fraction of two numerals, as in 1/2x, has one usual reading before a factor without a sign."""
        if self.starts_factor():
            numerals = all(child.op == "num" for child in quotient.args)
            if not numerals or self.peek().text in ("(", "[", "{"):
                raise Unreadable("a/b c has two readings")

    def starts_factor(self) -> bool:
        """Whether a factor without a multiplication sign follows. A bare number never does: "2 3" is no product."""
        token = self.peek()
        if token.kind == "cmd":
            return token.text not in NOT_FACTORS
        if token.kind == "word":
            no_unit = lookup(token.text) is None and noun(token.text) is None
            return token.text not in WORDS and (len(token.text) == 1 or no_unit)
        return token.kind == "op" and token.text in ("(", "{")

    def unary(self) -> Node:
        if self.take("-"):
            return Node("neg", "", (self._deeper(),))
        return self._deeper() if self.take("+") else self.power()

    def _deeper(self) -> Node:
        return self.nested(self.unary)

    def power(self) -> Node:
        base = self.postfix(self.atom())
        if self.take("^"):
            exponent = self._braced() if self.peek().text == "{" else self._deeper()
            if exponent.op == "num" and (len(exponent.text) > 8 or float(exponent.text) > MAX_EXPONENT):
                raise Unreadable(f"an exponent above {MAX_EXPONENT}")
            return self.postfix(Node("pow", "", (base, exponent)))
        return base

    def postfix(self, node: Node) -> Node:
        while True:
            if self.take("!"):
                node = Node("fn", "factorial", (node,))
            elif self.take("%") or self._take_word("percent"):
                node = Node("percent", "", (node,))
            elif self.take("degree") or self._take_word("degrees", "degree", "deg"):
                if self.peek().text in ("C", "F"):
                    self.position += 1
                    return Node("quantity", f"deg{self.tokens[self.position - 1].text}", (node, integer(1)))
                node = Node("deg", "", (node,))
            else:
                return node

    def _take_word(self, *words: str) -> bool:
        if self.peek().kind in ("word", "text") and self.peek().text.lower() in words:
            self.position += 1
            return True
        return False

    def atom(self) -> Node:
        token = self.peek()
        self.position += 1
        if token.kind == "num":
            return self._number(token)
        if token.kind in ("cmd", "word"):
            return self._named(token)
        if token.kind == "text" and token.text in FUNCTIONS:
            return self.nested(lambda: self._function(token.text))
        if token.text in BRACKETS:
            return self._bracket(token.text)
        if token.text == "{":
            return self._group()
        if token.text == "|":
            node = self.value()
            self.expect("|")
            return Node("fn", "abs", (node,))
        raise Unreadable(f"no value starts with {token.text!r}")

    def _number(self, token: Token) -> Node:
        """A literal, a repeating decimal ``0.\\overline{9}`` or a mixed number ``2 1/2``, ``2 \\frac{1}{2}``."""
        if "o" in token.text:
            return repeating(token.text)
        node = Node("num", token.text)
        after = self.peek()
        if after.kind == "word" and after.text in POWERS:
            self.position += 1
            return Node("mul", "", (node, Node("pow", "", (integer(10), integer(POWERS[after.text])))))
        places = (0, 1, 3, 4, 6) if after.text == "frac" and not self.raised() else ()
        if after.kind == "num" and after.spaced and self.peek(1).text == "/":
            top, bottom, length = after.text, self.peek(2).text, 3
        elif "".join(self.peek(place).text for place in places) == "frac{}{}":
            top, bottom, length = self.peek(2).text, self.peek(5).text, 7
        else:
            return node
        if all(text.isdigit() for text in (token.text, top, bottom)) and 0 < int(top) < int(bottom):
            self.position += length
            return ratio(int(token.text) + Fraction(int(top), int(bottom)))
        return node

    def _group(self) -> Node:
        """After "{": a TeX group of one value, or a set whose braces were not escaped."""
        if self.take("}"):
            return Node("set")
        items = [self.value()]
        while self.take(",", ";"):
            items.append(self.value())
        if len(items) == 1 and self.take("over"):  # TeX's own fraction
            items = [Node("div", "", (items[0], self.value()))]
        self.expect("}")
        return items[0] if len(items) == 1 else Node("set", "", tuple(items))

    def _braced(self) -> Node:
        self.expect("{")
        node = self.value()
        self.expect("}")
        return node

    def _bracket(self, left: str) -> Node:
        items = [] if left == "\\{" and self.peek().text == "\\}" else [self.value()]
        while self.take(",", ";"):
            items.append(self.value())
        right = self.peek().text
        if self.peek().kind != "op" or right not in BRACKETS[left]:
            raise Unreadable(f"{left!r} is never closed")
        self.position += 1
        if left == "\\{":
            return Node("set", "", tuple(items))
        if len(items) == 1 and left + right in ("()", "[]"):
            return items[0]
        return Node("bracket", left + right, tuple(items))

    def _named(self, token: Token) -> Node:
        name = token.text
        if name in CONSTANTS and not (token.kind == "word" and self.peek().text == "_"):
            return Node("const", CONSTANTS[name])
        if name in ("radic", "cbrt"):
            node = self.nested(self.atom)
            return Node("fn", "sqrt", (node,)) if name == "radic" else Node("fn", "root", (node, integer(3)))
        if name in FUNCTIONS:
            return self.nested(lambda: self._function(name))
        if token.kind == "cmd":
            return self._command(name)
        if len(name) == 1:
            return Node("sym", name + self._subscript())
        if len(name) <= 3 and name.isascii() and name.isalpha():  # xy, abc: a product, spelled out token by token
            self.position -= 1
            self.tokens[self.position : self.position + 1] = [Token("word", letter) for letter in name]
            return self.atom()
        raise Unreadable(f"{name!r} is no symbol")

    def _subscript(self) -> str:
        if not self.take("_"):
            return ""
        braced = self.take("{")
        token = self.peek()
        if token.kind not in ("num", "word"):
            raise Unreadable("a subscript is a number or a name")
        self.position += 1
        if braced:
            self.expect("}")
        return f"_{token.text}"

    def _command(self, name: str) -> Node:
        if name in GREEK:
            return Node("sym", name + self._subscript())
        if name == "frac":
            return Node("div", "", (self._braced(), self._braced()))
        if name == "binom":
            return Node("fn", "binom", (self._braced(), self._braced()))
        if name in ("lfloor", "lceil"):
            node = self.value()
            self.expect("r" + name[1:])
            return Node("fn", name[1:], (node,))
        if name == "emptyset":
            return Node("set")
        if name == "reals":
            infinite = Node("const", "inf")
            return Node("bracket", "()", (Node("neg", "", (infinite,)), infinite))
        if name == "begin":
            return self._matrix()
        raise Unreadable(f"the command \\{name} is not known")

    def _function(self, name: str) -> Node:
        """``sin x``, ``sin(x)``, ``sin^2 x``, ``log_2 8``, ``sqrt[3]{8}``: without brackets, one product follows."""
        if name == "sqrt" and self.take("["):
            degree = self.value()
            self.expect("]")
            return Node("fn", "root", (self._braced(), degree))
        base = None
        if name == "log" and self.take("_"):
            base = self._braced() if self.peek().text == "{" else self.atom()
        exponent = None
        if name in TRIG and self.take("^"):
            exponent = self._braced() if self.peek().text == "{" else self.unary()
            if exponent == integer(-1) and f"arc{name}" in TRIG:
                name, exponent = f"arc{name}", None
            elif exponent.op != "num":
                raise Unreadable(f"{name} to this power has two readings")
        arguments = (self._braced(),) if self.peek().text == "{" else self._arguments()
        if name in ("gcd", "lcm", "max", "min"):
            node = Node("fn", name, arguments)
        elif len(arguments) != 1:
            raise Unreadable(f"{name} takes one argument, not {len(arguments)}")
        elif name in ("ln", "exp", "lg") or base is not None:
            node = self._rename(name, arguments[0], base)
        else:
            node = Node("fn", name, arguments)
        return node if exponent is None else Node("pow", "", (node, exponent))

    @staticmethod
    def _rename(name: str, argument: Node, base: Node | None) -> Node:
        if name == "exp":
            return Node("pow", "", (Node("const", "e"), argument))
        if base is None:
            base = Node("const", "e") if name == "ln" else integer(10)
        return Node("fn", "logb", (argument, base))

    def _arguments(self) -> tuple[Node, ...]:
        if self.peek().text in ("(", "["):
            self.position += 1
            node = self._bracket(self.tokens[self.position - 1].text)
            return node.args if node.op == "bracket" else (node,)
        node = Node("neg", "", (self.power(),)) if self.take("-") else self.power()
        while self.starts_factor() and self.peek().text not in FUNCTIONS and self.peek().text != "(":
            node = Node("mul", "", (node, self.power()))
        return (node,)

    def _matrix(self) -> Node:
        kind = self._environment()
        rows: list[list[Node]] = [[self.value()]]
        while not self.take("end"):
            if self.take("&"):
                rows[-1].append(self.value())
            else:
                self.expect("\\\\")
                if self.peek().text != "end":
                    rows.append([self.value()])
        if self._environment() != kind or len({len(row) for row in rows}) != 1:
            raise Unreadable("a matrix has rows of one length")
        return Node("matrix", str(len(rows[0])), tuple(entry for row in rows for entry in row))

    def _environment(self) -> str:
        self.expect("{")
        name = self.peek().text
        self.position += 1
        self.expect("}")
        if name not in MATRICES:
            raise Unreadable(f"the environment {name!r} is not known")
        return name
