# Each of the last three lines is wrong.
from failing import orders, refunding, refunds, shipping

from headrace import Failure

shipping.on(Failure).to(refunds)
refunding.on(Failure).to(shipping)
orders.on(Failure).to(refunding)
