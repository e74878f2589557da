def soak(b,m): pass
def soak_text(x): pass
def all_of_it(b): pass
def text(x): pass
