# Smooth ten years of the Nile's flow at Aswan:   Rscript hello.R --alpha 0.5
args <- commandArgs(trailingOnly = TRUE)
alpha <- if ("--alpha" %in% args) as.numeric(args[match("--alpha", args) + 1]) else 0.3

flow <- as.numeric(window(Nile, 1871, 1880)) # 10^8 m3 a year; the series comes with R
smooth <- Reduce(function(last, value) alpha * value + (1 - alpha) * last, flow, accumulate = TRUE)

write.csv(data.frame(year = 1871:1880, flow, smooth), "smooth.csv", row.names = FALSE)
cat(sprintf("R: alpha %g, the Nile in 1880, smoothed: %.1f\n", alpha, smooth[10]))
