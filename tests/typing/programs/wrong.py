# Nine graphs that a checker must refuse: each of the last nine lines is wrong.
from anomaly import Verdict, score, temperatures
from approval import Refused, approval, decided, shipping
from temperature import Heat, alert, alerts, classify, quiet, readings

from headrace import Timeout

classify.on(Verdict.ODD).to(alert)
classify.on("hgih").to(alert)
classify.on(Heat.HIGH).to(alerts)
readings.to(alerts)
readings.to(quiet)
temperatures.to(score)
decided.on(Refused).to(shipping)
approval.on(Timeout).to(decided)
approval.to(shipping)
