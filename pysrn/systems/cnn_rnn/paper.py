"""placeholder"""

from pysrn.systems.published import NOTHING_PUBLISHED

PUBLISHED = NOTHING_PUBLISHED
