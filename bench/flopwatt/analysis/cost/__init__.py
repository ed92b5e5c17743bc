"""The price of training a transformer on many GPUs, bottom-up from a calibration: time, energy, dollars, CO2.

The public face is `price`, which prices one request, `price_all`, which prices many at once, and `choose`, which finds
the fastest layout of those that are possible. `Price.flop_per_s_per_gpu` and `Price.mfu` are end-to-end efficiencies.
"""

from flopwatt.analysis.cost.choosing import Wanted, choose
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.pricing import Price, Request, price, price_all

__all__ = ["Layout", "Price", "Request", "Wanted", "choose", "price", "price_all"]
