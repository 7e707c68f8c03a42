"""Metrics of every process, by way of the store, in Prometheus' words.

Each process leaves what it counts in the store every two seconds (`publishing`); whoever exports (the command
`headrace metrics`, a gateway) reads all of them from there and labels them (`exposition`). So a scraper
needs one address, and none of a worker's, wherever Ray has put it. `families` is what travels in between.
"""
