"""Names of Kamailio's functions and the modules that they come from: those that lessons and learners use."""

from __future__ import annotations

_OF_MODULE = """
avpops: avp_db_query avp_db_load avp_subst avp_printf avp_check avp_copy avp_delete avp_pushto is_avp_set
cfgutils: sleep usleep rand_event lock unlock abort pkg_status shm_status core_hash check_route_exists
corex: append_branch send_udp send_tcp send_data msg_iflag_set file_read file_write setxflag isxflagset
dialog: dlg_manage dlg_bye dlg_get dlg_refer dlg_bridge dlg_setflag is_known_dlg set_dlg_profile
dialplan: dp_translate dp_match dp_replace dp_reload
dispatcher: ds_select_dst ds_select_domain ds_next_dst ds_next_domain ds_mark_dst ds_is_from_list
htable: sht_print sht_lock sht_unlock sht_rm sht_rm_name_re sht_rm_value_re sht_reset sht_iterator_start
ipops: is_ip is_ip4 is_ip6 is_pure_ip compare_ips is_ip_rfc1918 is_in_subnet dns_query
kex: setdsturi resetdsturi isdsturiset isbflagset setbflag is_myself pkg_status
maxfwd: mf_process_maxfwd_header is_maxfwd_lt
nathelper: nat_uac_test fix_nated_contact fix_nated_register force_rport add_contact_alias handle_ruri_alias
pv: pv_isset pv_unset is_int typeof not_empty sbranch_append sbranch_reset xavp_rm pv_xavp_print
regex: pcre_match pcre_match_group
registrar: save lookup lookup_branches registered add_sock_hdr unregister
rr: loose_route record_route record_route_preset add_rr_param check_route_param is_direction remove_record_route
sanity: sanity_check sanity_reply
sdpops: sdp_get sdp_get_line_startswith sdp_content sdp_with_media sdp_with_codecs_by_name sdp_keep_codecs_by_name
    sdp_remove_codecs_by_name sdp_remove_codecs_by_id sdp_remove_line_by_prefix sdp_remove_media sdp_with_transport
    sdp_print sdp_get_address_family sdp_with_active_media sdp_with_ice
siputils: has_totag is_first_hop is_request is_reply is_uri uri_param add_uri_param get_uri_param tel2sip ring_insert
    encode_contact decode_contact options_reply cmp_uri cmp_aor hdr_date_check sip_p_charging_vector
sl: sl_send_reply send_reply sl_reply_error sl_forward_reply
sqlops: sql_query sql_xquery sql_pvquery sql_result_free
textops: append_hf insert_hf remove_hf remove_hf_re remove_hf_exp subst subst_hf subst_body subst_uri subst_user
    search search_hf search_body append_hf_value is_method is_present_hf is_present_hf_re append_to_reply append_body
    replace replace_body replace_all replace_hdrs has_body set_body set_reply_body in_list is_privacy filter_body
    search_append append_time cmp_str cmp_istr starts_with append_time_to_request regex_substring
textopsx: msg_apply_changes change_reply_status remove_body keep_hf remove_hf_value remove_hf_value2 insert_hf_value
    include_hf_value exclude_hf_value hf_value_exists append_hf_value assign_hf_value assign_hf_value2 fnmatch
    hf_iterator_start hf_iterator_next hf_iterator_end hf_iterator_rm hf_iterator_append hf_iterator_insert
    bl_iterator_start bl_iterator_next bl_iterator_end
tm: t_relay t_relay_to t_relay_to_udp t_relay_to_tcp t_reply t_newtran t_check_trans t_lookup_request t_lookup_cancel
    t_on_failure t_on_reply t_on_branch t_on_branch_failure t_set_fr t_reset_fr t_set_max_lifetime t_set_retr
    t_release t_set_auto_inv_100 t_is_canceled t_is_expired t_branch_timeout t_branch_replied t_any_timeout
    t_any_replied t_check_status t_grep_status t_is_failure_route t_is_branch_route t_is_reply_route
    t_is_request_route t_is_set t_load_contacts t_next_contacts t_next_contact_flow t_save_lumps t_use_uac_headers
    t_retransmit_reply t_set_disable_6xx t_set_disable_failover t_set_disable_internal_reply t_replicate
    t_forward_nonack t_uac_send
tmx: t_cancel_branches t_cancel_callid t_reply_callid t_flush_flags t_suspend t_continue t_drop t_is_request_route
    t_precheck_trans t_is_retr_async t_reuse_branch
uac: uac_replace_from uac_restore_from uac_replace_to uac_restore_to uac_auth uac_req_send uac_reg_lookup
xlog: xlog xlogl xdbg xdbgl xinfo xnotice xwarn xerr xlogm xalert xcrit xbug xlogs
"""
"""A module, a colon, its functions; a line that begins with spaces goes on with the one before."""

FUNCTION_MODULES = {
    name: module
    for module, _, names in (row.partition(":") for row in _OF_MODULE.replace("\n ", " ").split("\n") if row)
    for name in names.split()
}
"""Function -> module."""
