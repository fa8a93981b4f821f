# SPDX-License-Identifier: Apache-2.0
"""Plain words to name things with, drawn by seed: keys, variables, lists."""

import random
import string

_HOW = """
amber ample azure bold brave brief bright brisk broad calm civil clean clear clever cold crisp curly deep
dry eager early even fair fast fine firm flat fresh full gentle glad golden grand gray green happy hollow
honest humble icy keen kind large late lean light little lively long loud lucky mellow merry mild modest
narrow neat noble odd old open pale plain polite proud quick quiet rapid rare ready rich ripe rough round
royal rusty sharp shiny short silent silver simple slim slow small smart smooth soft solid sour steady steep
still strong sunny sweet swift tall tame tender thick thin tidy tiny vast vivid warm wide wild wise
"""
_WHAT = """
acorn anchor apple arrow attic badge baker banjo barn basin basket beacon bench bell berry bottle bridge
broom brush bucket button cabin camel candle canoe canyon carpet castle cellar cherry circle clock cloud
coat comet copper cotton cradle crane crater creek cricket crown curtain daisy desk dolphin door dragon drum
eagle engine falcon farmer feather fence ferry field finger flute forest fossil fountain fox garden ginger
glacier glove goose grape guitar hammer harbor hat hill honey horse island jacket jungle kettle key kitten
ladder lake lamp lantern lemon letter lion lizard magnet maple marble market meadow melon mirror monkey moon
mountain mushroom needle nest oak ocean olive onion orchard otter owl paddle palace panda parrot pearl
pencil pepper piano pillow pine planet pocket pond pumpkin puzzle rabbit raven ribbon river robin rocket
rope saddle sailor salmon scarf school shadow shell ship shoe spider spoon squirrel stable star stone storm
sugar table teacher temple thunder tiger timber tower train trumpet tunnel turtle valley velvet village
violin wagon walnut water whale wheel willow window winter wolf yard zebra
"""

_ADJECTIVES, _NOUNS = _HOW.split(), _WHAT.split()


def names(count: int, dice: random.Random) -> list[str]:
    """Different names such as "amber-anchor"; 19,000 are known."""
    drawn = dice.sample(range(len(_ADJECTIVES) * len(_NOUNS)), count)
    return [f"{_ADJECTIVES[one % len(_ADJECTIVES)]}-{_NOUNS[one // len(_ADJECTIVES)]}" for one in drawn]


def numbers(count: int, dice: random.Random, digits: int = 7) -> list[str]:
    """Different numbers of `digits` digits."""
    return [str(one) for one in dice.sample(range(10 ** (digits - 1), 10**digits), count)]


def variables(count: int, dice: random.Random) -> list[str]:
    """Different names of five capital letters."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(dice.choices(string.ascii_uppercase, k=5))] = None
    return list(found)
