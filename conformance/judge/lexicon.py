"""Closed word classes the judge looks at: negation, opposites, quantifiers, hedges, causes, units."""

from conformance.judge.text import word_list

NEGATORS = frozenset(
    word_list(
        "not no never without neither nor none nothing cannot hardly barely fails failed lacks"
    )
)

_OPPOSITES = """
increase decrease; increases decreases; increased decreased; increasing decreasing; rise fall;
rises falls; rose fell; raise lower; raised lowered; raises lowers; higher lower; high low;
highest lowest; more less; more fewer; most least; greater smaller; larger smaller; largest smallest;
above below; over under; before after; earlier later; first last; maximum minimum; best worst;
better worse; faster slower; fast slow; positive negative; allow prohibit; allowed prohibited;
allows prohibits; permit forbid; permitted forbidden; include exclude; includes excludes;
included excluded; including excluding; gain loss; gains losses; gained lost; win lose; won lost;
success failure; successful unsuccessful; effective ineffective; safe unsafe; legal illegal;
possible impossible; required optional; mandatory voluntary; approve reject; approved rejected;
accept refuse; accepted refused; start end; started ended; begin end; began ended; open closed;
improve worsen; improved worsened; improves worsens; improvement decline; strengthen weaken;
expand shrink; expanded shrank; growth decline; grew shrank; support oppose; supports opposes;
supported opposed; always never; all none; hot cold; warm cool; cheaper costlier; cheap expensive;
short long; shorter longer; inside outside; internal external; public private; temporary permanent;
north south; east west; northern southern; eastern western; buy sell; import export;
imports exports; enable disable; enabled disabled; enables disables; beneficial harmful;
benefit harm; present absent; true false; likely unlikely; reduce increase; reduces increases;
reduced increased; reducing increasing; reduction increase; up down; male female; men women;
synchronous asynchronous; stricter looser; strong weak; stronger weaker; early late; majority minority
"""
OPPOSITES: dict[str, frozenset[str]] = {}
for _pair in _OPPOSITES.replace("\n", " ").split(";"):
    _left, _right = _pair.split()
    OPPOSITES[_left] = OPPOSITES.get(_left, frozenset()) | {_right}
    OPPOSITES[_right] = OPPOSITES.get(_right, frozenset()) | {_left}

ABSOLUTES = frozenset(
    word_list("""all every always only entirely completely exclusively solely guarantee guaranteed guarantees
    everyone everybody any definitely proves proven universally ever fully worldwide""")
)
HEDGES = frozenset(
    word_list("""may might could can possibly perhaps some often sometimes typically usually generally
    suggest suggests suggested likely potentially partially partly mostly appears limited
    preliminary estimated proposed planned expected""")
)
CAUSES = frozenset(
    word_list("""because cause causes caused causing due leads led results resulted resulting therefore thus
    drives drove driven triggers triggered owing""")
)
UNITS = frozenset(
    word_list("""% mg g kg ug mcg microgram micrograms milligram milligrams gram grams kilogram kilograms lb
    lbs pound pounds oz ounces ton tons tonne tonnes m km cm mm nm meter meters metre metres
    kilometer kilometers kilometre kilometres mile miles foot feet inch inches yard yards l ml liter
    liters litre litres gallon gallons second seconds ms minute minutes min hour hours hr hrs day
    days week weeks month months year years decade decades century centuries c f k celsius
    fahrenheit kelvin kb mb gb tb mhz ghz kwh mwh gwh twh kw mw gw hz watt watts volt volts million
    billion trillion thousand hundred m b usd eur gbp dollar dollars euro euros acre acres hectare
    hectares percent points x times mph bce ce bc ad""")
)
_UNIT_NAMES = {
    "mg": "milligram milligrams", "g": "gram grams", "kg": "kilogram kilograms",
    "ug": "mcg microgram micrograms", "lb": "lbs pound pounds", "ounce": "oz ounces",
    "tonne": "ton tons tonnes", "m": "meter meters metre metres", "cm": "centimeters",
    "km": "kilometer kilometers kilometre kilometres", "mile": "miles", "foot": "feet",
    "inch": "inches", "l": "liter liters litre litres", "gallon": "gallons", "s": "second seconds",
    "min": "minute minutes", "h": "hour hours hr hrs", "day": "days", "week": "weeks",
    "month": "months", "year": "years", "decade": "decades", "century": "centuries",
    "c": "celsius", "f": "fahrenheit", "dollar": "usd dollars", "euro": "eur euros",
    "kb": "kilobytes kilobyte", "mb": "megabytes megabyte", "gb": "gigabytes gigabyte",
    "acre": "acres", "hectare": "hectares", "times": "x", "w": "watt watts",
}  # fmt: skip
UNIT_OF: dict[str, str] = {unit: unit for unit in UNITS} | {
    name: unit for unit, names in _UNIT_NAMES.items() for name in [unit, *names.split()]
}
