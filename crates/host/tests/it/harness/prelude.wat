;; What every guest of the tests has: a place for results, an allocator, and words for the log.
;; 0x100 pointer, 0x104 length, 0x108 number that hostcalls return; 0x200 names of statuses;
;; 0x1000 the line that is being written; 0x4000 texts; 0x10000 the heap.

(data (i32.const 0x100) "\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5\a5")
(global $at (mut i32) (i32.const 0x1000))
(global $heap (mut i32) (i32.const 0x10000))

;; Allocates, growing the memory where it must; 0 if it may not grow.
(func $bump (param $size i32) (result i32) (local $ptr i32) (local $missing i32)
  (local.set $ptr (global.get $heap))
  (global.set $heap (i32.add (local.get $ptr) (local.get $size)))
  (local.set $missing (i32.sub
    (i32.shr_u (i32.add (global.get $heap) #0xffff) #16) (memory.size)))
  (if (i32.gt_s (local.get $missing) #0) (then
    (if (i32.eq (memory.grow (local.get $missing)) #-1) (then (return #0)))))
  (local.get $ptr))

;; Appends one byte to the line; what is too long is cut.
(func $byte (param $byte i32)
  (if (i32.lt_u (global.get $at) #0x3f00) (then
    (i32.store8 (global.get $at) (local.get $byte))
    (global.set $at (i32.add (global.get $at) #1)))))

(func $text (param $ptr i32) (param $len i32)
  (loop $next (if (local.get $len) (then
    (call $byte (i32.load8_u (local.get $ptr)))
    (local.set $ptr (i32.add (local.get $ptr) #1))
    (local.set $len (i32.sub (local.get $len) #1))
    (br $next)))))

(func $hex_digit (param $digit i32)
  (call $byte (i32.add (local.get $digit)
    (select #87 #48 (i32.gt_u (local.get $digit) #9)))))

;; Appends bytes, those that are not printable as \hh.
(func $escaped (param $ptr i32) (param $len i32) (local $byte i32)
  (loop $next (if (local.get $len) (then
    (local.set $byte (i32.load8_u (local.get $ptr)))
    (if (i32.lt_u (i32.sub (local.get $byte) #0x20) #0x5f)
      (then (call $byte (local.get $byte)))
      (else
        (call $byte #0x5c)
        (call $hex_digit (i32.shr_u (local.get $byte) #4))
        (call $hex_digit (i32.and (local.get $byte) #15))))
    (local.set $ptr (i32.add (local.get $ptr) #1))
    (local.set $len (i32.sub (local.get $len) #1))
    (br $next)))))

(func $decimal (param $value i64)
  (if (i64.ge_u (local.get $value) #10L) (then
    (call $decimal (i64.div_u (local.get $value) #10L))))
  (call $byte (i32.add #48 (i32.wrap_i64 (i64.rem_u (local.get $value) #10L)))))

;; Appends the name of a status.
(func $name (param $status i32) (local $slot i32)
  (if (i32.gt_u (local.get $status) #12) (then
    (call $decimal (i64.extend_i32_u (local.get $status)))
    (return)))
  (local.set $slot (i32.add #0x200 (i32.mul (local.get $status) #24)))
  (call $text (i32.add (local.get $slot) #1) (i32.load8_u (local.get $slot))))

(func $flush
  (drop (call $proxy_log #2 #0x1000 (i32.sub (global.get $at) #0x1000)))
  (global.set $at #0x1000))

;; Logs a text.
(func $say (param $ptr i32) (param $len i32)
  (call $text (local.get $ptr) (local.get $len))
  (call $flush))

;; Logs a text and a number.
(func $number (param $ptr i32) (param $len i32) (param $value i32)
  (call $text (local.get $ptr) (local.get $len))
  (call $byte #32)
  (call $decimal (i64.extend_i32_u (local.get $value)))
  (call $flush))

;; Logs a text and a status.
(func $is (param $ptr i32) (param $len i32) (param $status i32)
  (call $text (local.get $ptr) (local.get $len))
  (call $byte #32)
  (call $name (local.get $status))
  (call $flush))

;; Logs a text, a status and the bytes at the returned pointer and length; says `touched` if a
;; failed call changed these.
(func $got (param $ptr i32) (param $len i32) (param $status i32)
  (call $text (local.get $ptr) (local.get $len))
  (call $byte #32)
  (call $name (local.get $status))
  (if (i32.and (i32.eq (i32.load #0x100) #0xa5a5a5a5) (i32.eq (i32.load #0x104) #0xa5a5a5a5))
    (then (if (i32.eqz (local.get $status)) (then (call $text ' untouched'))))
    (else
      (if (local.get $status)
        (then (call $text ' touched'))
        (else
          (if (i32.eqz (i32.or (i32.load #0x100) (i32.load #0x104)))
            (then (call $text ' empty'))
            (else
              (call $text ' \22')
              (call $escaped (i32.load #0x100) (i32.load #0x104))
              (call $byte #34)))))
      (i64.store #0x100 #0xa5a5a5a5a5a5a5a5L)))
  (call $flush))

;; Logs a text, a status and the number at the returned place, four or eight bytes.
(func $got_number (param $ptr i32) (param $len i32) (param $status i32)
  (call $text (local.get $ptr) (local.get $len))
  (call $byte #32)
  (call $name (local.get $status))
  (if (i64.eq (i64.load #0x108) #0xa5a5a5a5a5a5a5a5L)
    (then (if (i32.eqz (local.get $status)) (then (call $text ' untouched'))))
    (else
      (if (local.get $status)
        (then (call $text ' touched'))
        (else
          (call $byte #32)
          (if (i32.eq (i32.load #0x10c) #0xa5a5a5a5)
            (then (call $decimal (i64.load32_u #0x108)))
            (else (call $decimal (i64.load #0x108))))))
      (i64.store #0x108 #0xa5a5a5a5a5a5a5a5L)))
  (call $flush))
