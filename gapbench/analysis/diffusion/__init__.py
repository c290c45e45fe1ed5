"""Whether the weights diffuse, tested: drift and spread over data orders, growth exponents, predictions beyond the fit, collapse.

Hoffer et al. 2017, section 3 and figure 2, took the logarithmic growth of the weight distance for a walk in a random potential. A distance
alone does not show diffusion: what all data orders share is drift.
"""
