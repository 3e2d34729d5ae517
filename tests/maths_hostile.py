"""Texts that run code in a careless reader, and texts that never end in one: data for tests and for the benchmark."""

from __future__ import annotations

CANARY = "CANARY"
"""Stands for the path of a file that must not appear."""

CODE = [
    "__import__('os').system('touch CANARY')", "__import__('os').system('touch CANARY') or 1", "open('CANARY','w')",
    "open('CANARY','w').write('x')", "(lambda: open('CANARY','w'))()", "(lambda f: f('CANARY','w'))(open)",
    "().__class__.__base__.__subclasses__()", "().__class__.__bases__[0].__subclasses__()[0]",
    "exec(\"open('CANARY','w')\")", "eval('open(\"CANARY\",\"w\")')",
    "eval(\"__import__('os').system('touch CANARY')\")", "compile('open(\"CANARY\",\"w\")','','exec')",
    "[c for c in ().__class__.__base__.__subclasses__()][0] or open('CANARY','w')", "{**globals()}",
    "globals()['__builtins__']", "__builtins__.open('CANARY','w')", "print(open('CANARY','w'))", "breakpoint()",
    "exit()", "quit()", "import os; os.system('touch CANARY')", "x if open('CANARY','w') else 1",
    "f\"{open('CANARY','w')}\"", "'%s' % open('CANARY','w')", "1 and open('CANARY','w')",
    "Symbol('x').__class__.__init__.__globals__['sys'].modules['os'].system('touch CANARY')",
    "Symbol.__subclasses__()", "Symbol('x').subs(open('CANARY','w'), 1)", "sympify(\"open('CANARY','w')\")",
    "parse_expr(\"open('CANARY','w')\")", "lambdify(x, open('CANARY','w'))", "S(\"open('CANARY','w')\")",
    "Function('f')(open('CANARY','w'))", "Integer(open('CANARY','w'))", "preview(x, viewer='file', filename='CANARY')",
    "plot(x).save('CANARY')", "solve(open('CANARY','w'), x)", "N(open('CANARY','w'))", "\\input{/etc/passwd}",
    "\\include{CANARY}", "\\write18{touch CANARY}", "\\immediate\\write18{touch CANARY}",
    "\\newwrite\\f\\immediate\\openout\\f=CANARY\\immediate\\write\\f{x}", "\\openout1=CANARY", "\\catcode`\\@=11",
    "\\csname write18\\endcsname", "\\boxed{__import__('os').system('touch CANARY')}", "\\text{open('CANARY','w')}",
    "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "x.__class__", "1 .__class__", "pi.__init__.__globals__",
    "\\operatorname{__import__('os').system('touch CANARY')}", "@open('CANARY','w')",
]  # fmt: skip

HANGS = [
    "10^{10^{10}}", "10^10^10", "9^9^9^9", "9^{9^{9^{9}}}", "factorial(10^9)", "(10^9)!", "99999!!",
    "((9^{9999})^{9999})^{9999}", "2^{2^{2^{2^{2^2}}}}", "\\sin(10^{1000})", "\\sin(10^{9999})",
    "\\sin(\\sin(\\sin(\\sin(10^{3000}))))", "(x+y+z+w+1)^{999}", "(x+1)^{9999}",
    "(1+x+x^2+x^3+x^4)^{500}*(1-x)^{500}", "\\binom{10000}{5000}", "\\binom{10^9}{5*10^8}",
    "\\sqrt{\\sqrt{\\sqrt{\\sqrt{\\sqrt{2+x}+x}+x}+x}+x}", "e^{e^{e^{e^{10}}}}", "e^{10^{4000}}",
    "\\gcd(10^{5000}, 7^{5000})", "\\log_{2}(3^{9999})^{9999}", "\\tan(10^{2000})^{10^{3}}",
    "\\lfloor e^{\\pi^{9}} \\rfloor!", "x^{x^{x^{x^{x^{x}}}}}", "1e9999^9999", "\\arctan(\\tan(10^{999}))",
    "(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7})^{300}", "\\lfloor (\\sqrt{2}+1)^{9999} \\rfloor",
    "\\cos(\\cos(\\cos(\\cos(\\cos(x^{9999})))))^{9999}", "((((x^{99}+1)^{99}+1)^{99}+1)^{99}+1)^{99}",
    "(" * 400 + "1" + ")" * 400,
    "(" * 40 + "x" + ")" * 40,
    "+".join(f"\\sin(x^{{{k}}})^{{9999}}" for k in range(2, 14)),
    "1" + "+\\sqrt{2}" * 60,
    "*".join(f"(x+{k})" for k in range(60)),
    "\\sqrt[9999]{" + "7" * 1500 + "}",
    "(" + "7" * 900 + ")^{9999}",
    "0.\\overline{" + "7" * 1500 + "}",
    "|" * 199 + "1" + "|" * 199,
]  # fmt: skip

HANGING_QUERIES = [
    "x^8 - x^7 + 3x^5 - 11x^3 + 7x - 1 = 0", "\\int_0^1 \\sin(x^{99}) \\cos(e^{x}) \\tan(x) dx",
    "\\int \\frac{x^9 \\sin(x) e^{x^3}}{\\ln(x) + x} dx",
    "\\int_0^{\\infty} \\frac{\\sin(x^3) \\ln(x+1)}{x^5 + x + 1} dx",
    "Solve x^4 + y^3 + z^2 = 7, x^3 y + z = 1, x + y^4 - z^3 = 2", "Solve x^4 - y^3 = 1, x^3 + y^4 + xy = 3",
    "derivative of (x+1)^{9999} e^{x^{99}} \\sin(x^{9999})", "\\int (x+1)^{9999} dx",
    "fourth derivative of x^x \\sin(x^x) \\ln(x^x)", "\\int \\sqrt{x + \\sqrt{x + \\sqrt{x + \\sqrt{x}}}} dx",
    "integrate e^{\\sin(\\cos(\\tan x))} from 0 to 9", "x^8 - 123456789x^5 + 987654321x^2 - 1 = 0",
]  # fmt: skip
