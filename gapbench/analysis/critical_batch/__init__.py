"""Critical batch sizes: how many updates a target takes at each batch size, and beyond which size more examples buy few fewer updates.

McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162.
"""
