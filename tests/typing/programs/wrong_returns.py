# Each of the last seven lines is wrong.
from anomaly import Verdict
from returns import copies, for_many, for_maybe, later, mixing, stopping
from temperature import Heat, alerts

for_maybe.to(copies)
for_many.to(copies)
later.to(copies)
stopping.to(copies)
mixing.on(Verdict.ODD).to(copies)
mixing.on("high").to(copies)
mixing.on(Heat.HIGH).to(alerts)
