"""What others do with the same mail on the same machine, as far as pip brings them; with settings of their own."""
