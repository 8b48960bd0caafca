"""Claims of the toy: one that is true, one that is false, a tie, and facts."""

from pysrn.claims.claim import ALONE, AS_IT_IS, WHOLE, Claim, Fact, Row, Side, Training, Try
from pysrn.claims.measures import mean_ap
from pysrn.claims.verdict import NO_LOSS

TRIES = {WHOLE: (AS_IT_IS, Try("slow", rates=(1e-6,))), ALONE: (Try("still", rates=(1e-6,)), AS_IT_IS)}
RESULT = mean_ap(1, verdict=1)
LONG, SHORT = Training(WHOLE, "the toy"), Training("short", "one step of it", ("--iterations", "1"))
SAME = Training("same", "the toy again")
CLAIMS = (
    Claim("T1", "training helps", "long against short", ("shapes",), (Row(Side(LONG, RESULT), Side(SHORT, RESULT)),)),
    Claim("T2", "training harms", "short against long", ("shapes",), (Row(Side(SHORT, RESULT), Side(LONG, RESULT)),)),
    Claim("T3", "the same is the same", "twice", ("shapes",), (Row(Side(LONG, RESULT), Side(SAME, RESULT), NO_LOSS),)),
    Claim("T4", "two and two", "counted", (), facts=(Fact("sum", lambda: 2 + 2, 4, 4, "apples"),)),
)
