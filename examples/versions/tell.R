cat("R", as.character(getRversion()), "\n")
