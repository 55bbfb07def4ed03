def made(): return iter(())
