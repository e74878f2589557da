/* How late the main loop is: a timer that should fire every 100 ms and notes by how much it missed. Main thread only.
 */
#pragma once
#include <glib.h>

/* Starts measuring the default main context; more calls change nothing. Fills choir_loop_lag_seconds (histogram) and
 * choir_loop_lag_recent_seconds (gauge: the worst of the last ten seconds). */
void choir_loop_lag_start(void);
double choir_loop_lag_ms(void); /* the gauge in milliseconds; 0 before the start */
