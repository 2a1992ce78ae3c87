"""The colours of the course: one meaning, one colour, in every picture of every lesson.

Taken from the Okabe-Ito set, which colour-blind readers can tell apart; each also has its own shape, so that
no picture depends on colour alone. They are readable on a white and on a dark page.
"""

FIRST_TOKEN = "#E69F00"  # orange, drawn as a diamond
TOKEN = "#0072B2"  # blue, drawn as a dot or a tick
WAITING = "#999999"  # grey, drawn as a thin line
ERROR = "#D55E00"  # vermillion, drawn as a cross
EXPECTED = "#009E73"  # green, what the exercise expects
