# Each of the last six lines is wrong.
from composition import Order, adding, adding_all, orders, price, pricing, pricing_all, texts

from headrace import Map

pricing.to(adding_all)
pricing_all.to(adding)
texts.to(pricing)
orders.to(pricing_all)
Map(price, Order)
Map(price, list[int])
