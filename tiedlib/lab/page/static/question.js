const typed = this.querySelector('input').value.replace(/[\s_%]/g, '').replace(/\u2212/g, '-');
const plain = /^[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$/.test(typed) ? typed.replace(/,/g, '') : typed.replace(',', '.');
const parts = plain.split('/').map((part) => (part ? Number(part) : NaN));
const value = parts.length > 2 ? NaN : parts.length === 2 ? parts[0] / parts[1] : parts[0];
const inside = (said) => said.dataset.low <= value && value <= said.dataset.high;
const find = (kind) => this.querySelector(kind);
const hit = Number.isFinite(value) ? [...this.querySelectorAll('[data-low]')].find(inside) || find('.tl-other') : find('.tl-unread');
for (const said of this.querySelectorAll('.tl-why')) said.classList.toggle('tl-on', said === hit);
