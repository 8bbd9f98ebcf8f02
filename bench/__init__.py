"""Benchmarks: what a number of services costs, as seconds, memory and growth. They print and never judge."""
