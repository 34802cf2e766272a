"""Veilsum's protocol, suite 1, a second time: written from docs/protocol.md and docs/wire.md alone.

One file per subject; docstrings cite the sections ("protocol 2.5", "wire 4.4") and the rules ("R-13") they carry out.
Nothing here is constant in time or careful with memory. It is a model to compare with, not a product.
"""
