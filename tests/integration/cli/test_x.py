from eventually import eventually
assert eventually
