"""Units: an exact factor to the base of their dimension. Two quantities are compared only within one dimension."""

from __future__ import annotations

from fractions import Fraction

from verifiers.maths.names import CONSTANTS, FUNCTIONS, GREEK, WORDS
from verifiers.maths.numerals import NUMERALS

Unit = tuple[str, Fraction]

_TABLE = {
    "m": "1 m meter meters metre metres; 1000 km kilometer kilometers kilometre kilometres; 1/100 cm centimeter "
    "centimeters centimetre centimetres; 1/1000 mm millimeter millimeters millimetre millimetres; 1/1000000 um micron "
    "microns; 1/1000000000 nm; 127/5000 in inch inches; 381/1250 ft foot feet; 1143/1250 yd yard yards; "
    "201168/125 mi mile miles",
    "s": "1 s sec second seconds; 1/1000 ms; 60 min minute minutes; 3600 h hr hrs hour hours; 86400 day days; "
    "604800 week weeks",
    "g": "1 g gram grams; 1000 kg kilogram kilograms; 1/1000 mg; 1000000 tonne tonnes; 45359237/100000 lb lbs pound "
    "pounds; 45359237/1600000 oz ounce ounces",
    "L": "1 L l liter liters litre litres; 1/1000 mL ml milliliter milliliters millilitre millilitres",
    "usd": "1 dollar dollars usd; 1/100 cent cents",
    "eur": "1 euro euros eur",
    "year": "1 year years; 1/12 month months",
    "deg": "1 degree degrees deg",
    "rad": "1 radian radians rad",
    "degC": "1 celsius",
    "degF": "1 fahrenheit",
    "N": "1 N newton newtons; 1000 kN",
    "J": "1 J joule joules; 1000 kJ",
    "W": "1 W watt watts; 1000 kW",
    "V": "1 V volt volts",
    "A": "1 A amp amps ampere amperes; 1/1000 mA",
    "Hz": "1 Hz hertz; 1000 kHz; 1000000 MHz",
    "Pa": "1 Pa pascal pascals; 1000 kPa",
    "mol": "1 mol mole moles",
    "K": "1 K kelvin",
    "unit": "1 unit units",
}

UNITS: dict[str, Unit] = {}
for _base, _rows in _TABLE.items():
    for _row in _rows.split("; "):
        _factor, *_names = _row.split()
        UNITS.update({_name: (_base, Fraction(_factor)) for _name in _names})
UNITS["mph"] = ("m s^-1", Fraction(1397, 3125))
UNITS["kph"] = ("m s^-1", Fraction(5, 18))


_NO_NOUNS = frozenset(
    """about above after again almost also approximately around before below beneath binary both cubed decimal degree
    degrees different divided dozen dozens each either else equal equals even every exactly factorial false
    fewer final first following from given greater guess half halves hexadecimal however hundreds hundredth
    hundredths if infinite into large larger least left less like many maximum maybe mean minimum minus modulo
    more most much negative neither never next none not nothing number octal once only other otherwise over
    perhaps plus positive possible possibly power prime probably quarter quarters radical raised remainder right
    root roughly same second several since small smaller solution some something squared subtract such tenth
    tenths than that the their them then there these they third thirds this thousands thousandth thousandths
    those times total true twice under undefined unknown until wait when where which with without would wrong
    yes january february march april june july august september october november december eighth eighths fifth
    fifths fourth fourths gross ninth ninths ones score scores seventh sevenths sixth sixths tens twelfth
    twelfths twentieth twentieths base monday tuesday wednesday thursday friday saturday sunday""".split()  # noqa: SIM905 - readable as words
).union(FUNCTIONS, CONSTANTS, GREEK, WORDS, NUMERALS)
"""Words after a number that change it, doubt it or make it something else than a count of things."""


def noun(word: str) -> str | None:
    """What is counted in "8 apples", in the singular: a word of at least four letters that changes no number."""
    if len(word) < 4 or not word.isascii() or not word.isalpha() or not word.islower() or word in _NO_NOUNS:
        return None
    if lookup(word) is not None:
        return None
    return word[:-2] if word.endswith(("ches", "shes", "xes", "sses")) else word.removesuffix("s")


def lookup(name: str) -> Unit | None:
    """The unit of this name; long names in any case, short ones (mW, MW) only as they are."""
    return UNITS.get(name) or (UNITS.get(name.lower()) if len(name) > 3 else None)


def combine(parts: list[tuple[Unit, int]]) -> Unit:
    """The product of units to integer powers: canonical dimension such as ``"m s^-1"``, and exact factor."""
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for (dimension, scale), exponent in parts:
        for item in dimension.split():
            base, _, own = item.partition("^")
            powers[base] = powers.get(base, 0) + int(own or 1) * exponent
        factor *= scale**exponent
    names = [base if power == 1 else f"{base}^{power}" for base, power in sorted(powers.items()) if power]
    return " ".join(names), factor
