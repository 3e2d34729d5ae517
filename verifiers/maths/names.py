"""The names that the grammar knows; any other name of more than three letters is no symbol."""

from __future__ import annotations

TRIG = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"})
FUNCTIONS = TRIG | {"sqrt", "exp", "ln", "log", "lg", "abs", "floor", "ceil", "gcd", "lcm", "max", "min"}
GREEK = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi varphi chi psi
    omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell""".split()  # noqa: SIM905 - readable as words
)
CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf", "infinity": "inf", "inf": "inf", "oo": "inf"}
BRACKETS = {"(": ")]", "[": ")]", "\\{": ("\\}",)}
MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "array"})
WORDS = frozenset({"or", "and", "mod", "square", "cubic", "sq", "per", "percent"})
"""Words that have a meaning of their own, and so are no product of their letters."""
NOT_FACTORS = frozenset(
    {
        "pm",
        "cup",
        "setminus",
        "cap",
        "in",
        "bmod",
        "mod",
        "degree",
        "approx",
        "end",
        "over",
        "to",
        "reals",
        "rfloor",
        "rceil",
    }
)
"""Commands that never begin a factor without a multiplication sign."""
