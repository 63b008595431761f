"""Makes the tests a package, so that they share tests.oracle under any way of calling pytest."""
