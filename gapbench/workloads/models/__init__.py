"""Networks, one file a family: plain torch modules; ghost batch norm and stacking come from outside."""
