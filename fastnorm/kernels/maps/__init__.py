"""Maps: arithmetic on each element, with coefficients that some of them share; and on windows of elements."""
